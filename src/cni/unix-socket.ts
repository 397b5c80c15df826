/**
 * One exchange over a unix socket: text there, and all that comes back until the other end closes. On libuv's pipe, as net.Socket
 * uses it, but without node:net: loading that and its streams takes 4 to 5 ms, a sixth of a run, and every pod start of the node
 * pays for it. Node advises against process.binding where a program meets many versions of Node; this one carries its own, pinned,
 * and the tests speak to real sockets.
 */

/** What is used of the bindings; lib/net.js and lib/internal/stream_base_commons.js of Node are their documentation. */
interface Pipe {
  /** how much of `data` is valid, or a negative errno, stands in streamBaseState */
  onread: (data: ArrayBuffer | undefined) => void;
  /** as all of these: 0 or undefined, or a negative errno */
  connect(request: Request, path: string): number | undefined;
  readStart(): number | undefined;
  writeUtf8String(request: Request, text: string): number | undefined;
  close(): void;
}
interface Request {
  /** @param status 0 or a negative errno */
  oncomplete: (status: number) => void;
}
interface Bindings {
  pipe_wrap: { Pipe: new (type: number) => Pipe; PipeConnectWrap: new () => Request; constants: { SOCKET: number } };
  stream_wrap: {
    WriteWrap: new () => Request;
    streamBaseState: ArrayLike<number>;
    kReadBytesOrError: number;
    kArrayBufferOffset: number;
  };
  uv: { UV_EOF: number; errname(error: number): string };
}

function binding<K extends keyof Bindings>(name: K): Bindings[K] {
  return (process as unknown as { binding(name: K): Bindings[K] }).binding(name);
}

/**
 * @param limit bytes of the answer, beyond which the other end is no friend
 * @throws Error "connect: ENOENT", "no answer within 100 ms" and the like
 */
export function exchange(path: string, text: string, deadlineMs: number, limit: number): Promise<string> {
  const { Pipe, PipeConnectWrap, constants } = binding('pipe_wrap');
  const { WriteWrap, streamBaseState, kReadBytesOrError, kArrayBufferOffset } = binding('stream_wrap');
  const pipe = new Pipe(constants.SOCKET);
  return new Promise<string>((resolve, reject) => {
    const deadline = setTimeout(() => {
      fail(`no answer within ${deadlineMs} ms`);
    }, deadlineMs);
    const end = (): void => {
      clearTimeout(deadline);
      pipe.onread = () => undefined;
      pipe.close();
    };
    const fail = (cause: string): void => {
      end();
      reject(new Error(cause));
    };
    /** @returns whether it went well; what the system refuses ends the exchange */
    const went = (step: string, status: number | undefined): boolean => {
      if (status === undefined || status >= 0) return true;
      fail(`${step}: ${binding('uv').errname(status)}`);
      return false;
    };
    const chunks: Buffer[] = [];
    let size = 0;
    pipe.onread = (data) => {
      const count = streamBaseState[kReadBytesOrError] ?? 0;
      if (count === binding('uv').UV_EOF) {
        end();
        resolve(Buffer.concat(chunks, size).toString('utf8'));
      } else if (went('read', count) && data !== undefined) {
        chunks.push(Buffer.from(data, streamBaseState[kArrayBufferOffset], count));
        size += count;
        if (size > limit) fail('the answer does not end');
      }
    };
    const connecting = new PipeConnectWrap();
    connecting.oncomplete = (status) => {
      if (!went('connect', status) || !went('read', pipe.readStart())) return;
      const writing = new WriteWrap();
      writing.oncomplete = () => undefined; // who does not read to the end may have answered: reading tells
      went('write', pipe.writeUtf8String(writing, text));
    };
    went('connect', pipe.connect(connecting, path));
  });
}
