/**
 * The plugin's questions to the agent: one HTTP request over the agent's unix socket, within a deadline. Spoken by hand and in
 * HTTP/1.0, where the answer is plain text that ends with the connection: loading Node's client takes longer than all the rest.
 */
import {
  paths,
  type CniAddRequest,
  type CniAddResponse,
  type CniCheckRequest,
  type CniCheckResponse,
  type CniDelRequest,
  type CniGcRequest,
  type CniGcResponse,
  type CniStatusResponse,
} from '../agent/api.ts';
import { isRecord } from './spec.ts';
import { exchange } from './unix-socket.ts';

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

/** @throws AgentAway, AgentRefused, as all of these */
export async function askAdd(runDir: string, request: CniAddRequest, deadlineMs: number): Promise<CniAddResponse> {
  const answer = await post(runDir, '/v1/add', request, deadlineMs);
  return { enrolled: flag(answer['enrolled']), reason: textOf(answer['reason']) };
}

export async function tellDel(runDir: string, request: CniDelRequest, deadlineMs: number): Promise<void> {
  await post(runDir, '/v1/del', request, deadlineMs);
}

export async function askCheck(runDir: string, request: CniCheckRequest, deadlineMs: number): Promise<CniCheckResponse> {
  const answer = await post(runDir, '/v1/check', request, deadlineMs);
  return { enrolled: flag(answer['enrolled']), reason: textOf(answer['reason']), faults: list(answer['faults']) };
}

export async function askGc(runDir: string, request: CniGcRequest, deadlineMs: number): Promise<CniGcResponse> {
  const answer = await post(runDir, '/v1/gc', request, deadlineMs);
  return { reaped: list(answer['reaped']), kept: list(answer['kept']) };
}

export async function askStatus(runDir: string, deadlineMs: number): Promise<CniStatusResponse> {
  const answer = await post(runDir, '/v1/status', {}, deadlineMs);
  return { ready: flag(answer['ready']), reason: textOf(answer['reason']) };
}

function flag(value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw notUnderstood();
}

function list(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(String);
  throw notUnderstood();
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function notUnderstood(): AgentAway {
  return new AgentAway('the answer of the agent is not what this plugin understands');
}

/** No agent says more: this bounds what a stranger on the socket can make us keep. */
const MAX_ANSWER = 4 << 20;

async function post(runDir: string, path: string, body: unknown, deadlineMs: number): Promise<Record<string, unknown>> {
  const socketPath = paths.cniSocket(runDir);
  const payload = JSON.stringify(body);
  const head = `POST ${path} HTTP/1.0\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(payload)}\r\n\r\n`;
  let text: string;
  try {
    text = await exchange(socketPath, head + payload, deadlineMs, MAX_ANSWER);
  } catch (error) {
    throw new AgentAway(`${socketPath}: ${(error as Error).message}`);
  }
  return settled(text);
}

function settled(text: string): Record<string, unknown> {
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1];
  const bodyAt = text.indexOf('\r\n\r\n');
  if (status === undefined || bodyAt < 0) throw notUnderstood();
  let answer: unknown;
  try {
    answer = JSON.parse(text.slice(bodyAt + 4));
  } catch {
    answer = undefined;
  }
  if (status === '200' && isRecord(answer)) return answer;
  const fault = isRecord(answer) && isRecord(answer['error']) ? answer['error'] : undefined;
  if (fault === undefined) throw new AgentAway(`the agent answered HTTP ${status} without a reason`);
  throw new AgentRefused(String(fault['code']), String(fault['message']), fault['retryable'] === true);
}
