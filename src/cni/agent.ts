/** The plugin's one question to the agent: HTTP over the agent's unix socket, within a deadline. */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { paths, type CniAddRequest, type CniAddResponse, type CniDelRequest } from '../agent/api.ts';
import { isRecord } from './spec.ts';

/** No answer: nobody listens, the connection broke or the deadline passed. The enrolment snapshot decides then. */
export class AgentAway extends Error {}

/** The agent answered, and the answer is no. */
export class AgentRefused extends Error {
  readonly code: string;
  readonly retryable: boolean;

  constructor(code: string, message: string, retryable: boolean) {
    super(message);
    this.code = code;
    this.retryable = retryable;
  }
}

/** @throws AgentAway, AgentRefused */
export async function askAdd(runDir: string, request: CniAddRequest, deadlineMs: number): Promise<CniAddResponse> {
  const answer = await post(runDir, '/v1/add', request, deadlineMs);
  if (typeof answer['enrolled'] !== 'boolean') throw new AgentAway('the answer of the agent is not what this plugin understands');
  return { enrolled: answer['enrolled'], reason: typeof answer['reason'] === 'string' ? answer['reason'] : '' };
}

/** @throws AgentAway, AgentRefused */
export async function tellDel(runDir: string, request: CniDelRequest, deadlineMs: number): Promise<void> {
  await post(runDir, '/v1/del', request, deadlineMs);
}

async function post(runDir: string, path: string, body: unknown, deadlineMs: number): Promise<Record<string, unknown>> {
  const { request } = await import('node:http');
  const socketPath = paths.cniSocket(runDir);
  const payload = JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const away = (cause: string): void => {
      reject(new AgentAway(`${socketPath}: ${cause}`));
    };
    const outgoing: ClientRequest = request(
      {
        socketPath,
        path,
        method: 'POST',
        agent: false,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) },
      },
      (response) => {
        collect(response).then(
          (text) => {
            settle(response.statusCode ?? 0, text, resolve, reject);
          },
          (error: unknown) => {
            away(String(error));
          },
        );
      },
    );
    const deadline = setTimeout(() => {
      outgoing.destroy(new Error(`no answer within ${deadlineMs} ms`));
      away(`no answer within ${deadlineMs} ms`);
    }, deadlineMs);
    outgoing.on('error', (error) => {
      away(error.message);
    });
    outgoing.on('close', () => {
      clearTimeout(deadline);
    });
    outgoing.end(payload);
  });
}

function settle(status: number, text: string, resolve: (value: Record<string, unknown>) => void, reject: (error: Error) => void): void {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = undefined;
  }
  const fault = isRecord(answer) && isRecord(answer['error']) ? answer['error'] : undefined;
  if (status === 200 && isRecord(answer)) resolve(answer);
  else if (fault === undefined) reject(new AgentAway(`the agent answered HTTP ${status} without a reason`));
  else reject(new AgentRefused(String(fault['code']), String(fault['message']), fault['retryable'] === true));
}

async function collect(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
