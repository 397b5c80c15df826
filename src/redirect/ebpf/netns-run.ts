/** One entry of a netns, with errors that say what was asked. */
import { CulvertError } from '../../base/errors.ts';
import { native, type NetnsOp, type NetnsResult } from '../../sys/native.ts';

/** Runs one op and gives its value. The type is the op's, as addon/index.d.ts has it. @throws CulvertError SYSTEM */
export function runInNetns<T>(netnsFd: number, op: NetnsOp): T {
  return valueOf<T>(native.netnsRun(netnsFd, [op])[0], op);
}

/** Runs ops in order up to the first refusal. @throws CulvertError SYSTEM naming it */
export function runAll(netnsFd: number, ops: NetnsOp[]): void {
  if (ops.length === 0) return;
  const results = native.netnsRun(netnsFd, ops);
  ops.forEach((op, i) => valueOf(results[i], op));
}

export function valueOf<T>(result: NetnsResult | undefined, op: NetnsOp): T {
  if (result?.ok === true) return result.value as T;
  throw refusal(result, op);
}

export function refusal(result: Extract<NetnsResult, { ok: false }> | undefined, op: NetnsOp): CulvertError {
  const message = `${nameOf(op)}: ${result?.code ?? 'not done'}`;
  return new CulvertError('SYSTEM', message, result === undefined ? undefined : Object.assign(new Error(message), result));
}

/** "add rule for IPv4 prohibit", "write sysctl net/ipv4/fwmark_reflect" */
function nameOf(op: NetnsOp): string {
  switch (op.op) {
    case 'rule':
      return `${op.add ? 'add' : 'delete'} IPv${op.family} rule ${op.action}`;
    case 'route':
      return `${op.add ? 'add' : 'delete'} IPv${op.family} local route of table ${op.table}`;
    case 'sysctl':
      return `write sysctl ${op.path}`;
    case 'sysctl-read':
      return `read sysctl ${op.path}`;
    case 'rules':
    case 'routes':
      return `read IPv${op.family} ${op.op}`;
    case 'addresses':
      return 'read addresses';
    case 'sockets':
      return 'list marked sockets';
    case 'sockets-destroy':
      return 'destroy marked sockets';
  }
}
