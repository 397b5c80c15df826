/**
 * Bytes both ways between two streams, each way on its own: back-pressure, half-close and reset go through as if there were no
 * tunnel. Nothing is transformed, no more than HIGH bytes are held per direction beside what the kernel and the HTTP/2 windows hold.
 */
import { constants, type Http2Stream } from 'node:http2';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { systemCause } from '../base/errors.ts';

/** Bytes waiting in the writer above which the reader pauses, and below which it goes on. */
const HIGH = 256 * 1024;
const LOW = 128 * 1024;
/** A side that does not take its end in this time is cut. */
const CLOSE_GRACE_MS = 500;

export interface Counters {
  /** bytes that the local application sent */
  sent: number;
  received: number;
}

export interface Copy {
  /** Settles when both sides are closed; never rejects. The error is the tunnel's breaking, not an application's reset. */
  done: Promise<Error | undefined>;
  /** Ends both sides cleanly, and cuts what has not ended soon after. */
  close(reason: Error): void;
}

/** @param local the application's side @param remote the network's side */
export function copyBoth(local: Duplex, remote: Duplex, counters: Counters): Copy {
  let failure: Error | undefined;
  const fail = (error: Error): void => {
    if (!isReset(error)) failure ??= error;
  };
  pump(local, remote, (bytes) => (counters.sent += bytes));
  pump(remote, local, (bytes) => (counters.received += bytes));
  const done = Promise.all([closing(local, remote, fail), closing(remote, local, fail)]).then(() => failure);
  return {
    done,
    close: (reason) => {
      failure = reason;
      finish(local);
      finish(remote);
    },
  };
}

function pump(from: Duplex, to: Duplex, count: (bytes: number) => void): void {
  let waiting = false;
  const flushed = (): void => {
    if (!waiting || to.writableLength > LOW) return;
    waiting = false;
    from.resume();
  };
  from.on('data', (chunk: Buffer) => {
    count(chunk.length);
    to.write(chunk, flushed);
    if (waiting || to.writableLength < HIGH) return;
    waiting = true;
    from.pause();
  });
  // Who sends nothing and says so at once has ended before the other side was there.
  if (from.readableEnded) to.end();
  else from.on('end', () => to.end());
  from.resume(); // it may have been paused on purpose until we were ready
}

/** Resolves when `side` is closed. A side that closed before both its directions ended was reset, and so is the other. */
function closing(side: Duplex, other: Duplex, onError: (error: Error) => void): Promise<void> {
  side.on('error', onError);
  return new Promise((resolve) => {
    const closed = (): void => {
      if (!endedWell(side)) reset(other);
      resolve();
    };
    if (side.closed) closed();
    else side.once('close', closed);
  });
}

function endedWell(side: Duplex): boolean {
  if (!(side.readableEnded && side.writableFinished)) return false;
  return side instanceof Socket || ((side as Http2Stream).rstCode as number | undefined) === constants.NGHTTP2_NO_ERROR;
}

/**
 * The peer sees a reset: TCP RST, or RST_STREAM. A stream is destroyed rather than closed with a code, because Node's close sends
 * END_STREAM first, and the far application would take what it has for the whole.
 */
export function reset(stream: Duplex): void {
  if (stream.destroyed) return;
  if (stream instanceof Socket) stream.resetAndDestroy();
  else stream.destroy(new OwnReset());
}

/** Comes back as the stream's own error, where it counts as a reset. */
class OwnReset extends Error {
  readonly code = 'ECONNRESET';
}

/** FIN or END_STREAM after what is written, then closed, whether the peer has ended or not. */
function finish(stream: Duplex): void {
  if (stream.destroyed) return;
  const timer = setTimeout(() => stream.destroy(), CLOSE_GRACE_MS);
  stream.once('close', () => {
    clearTimeout(timer);
  });
  stream.removeAllListeners('data');
  stream.resume();
  if (stream instanceof Socket) stream.destroySoon();
  else stream.end(() => (stream as Http2Stream).close(constants.NGHTTP2_NO_ERROR));
}

/** An application may reset its connection: that is no failure of ours. */
function isReset(error: Error): boolean {
  const { systemCode } = systemCause(error);
  return (
    systemCode === 'ECONNRESET' ||
    systemCode === 'EPIPE' ||
    systemCode === 'ERR_HTTP2_STREAM_ERROR' ||
    systemCode === 'ERR_STREAM_DESTROYED'
  );
}
