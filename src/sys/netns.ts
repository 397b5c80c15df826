/** A network namespace held open by a descriptor. It lives as long as somebody holds it, whatever becomes of its path. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { CulvertError, isSystem } from '../base/errors.ts';
import { native, type Address, type DiagSocket, type NetnsOp, type NftChain, type NftRuleset, type Route, type Rule } from './native.ts';
import { attempt, systemError } from './system.ts';

const NSFS_MAGIC = 0x6e736673n;

/** What each operation of `run` gives. */
export interface NetnsValues {
  addresses: Address[];
  'link-up': undefined;
  rule: undefined;
  route: undefined;
  rules: Rule[];
  routes: Route[];
  sysctl: undefined;
  'sysctl-read': string;
  sockets: DiagSocket[];
  'sockets-destroy': number;
  forwarded: number;
  'ipset-references': number;
  'ipset-member': undefined;
  'nft-lookups': string[];
  'nft-chains': NftChain[];
  'nft-ruleset': NftRuleset;
  'xtables-chains': string[];
}

export class Netns implements Disposable {
  readonly fd: number;
  /** for messages */
  readonly name: string;
  #open = true;
  #cookie: bigint | undefined;

  private constructor(fd: number, name: string) {
    this.fd = fd;
    this.name = name;
  }

  /** @throws CulvertError NETNS_GONE when nothing, or no longer a namespace, is at the path; SYSTEM */
  static open(path: string): Netns {
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch (error) {
      const gone = ['ENOENT', 'ESRCH', 'ENOTDIR'].some((code) => isSystem(error, code));
      throw systemError(`open netns ${path}`, error, gone ? 'NETNS_GONE' : 'SYSTEM');
    }
    // The runtime's file outlives the mount on it: then it is an empty file, and setns on it says only EINVAL.
    if (native.statfsType(`/proc/self/fd/${fd}`) !== NSFS_MAGIC) {
      closeSync(fd);
      throw new CulvertError('NETNS_GONE', `open netns ${path}: it is a file, no namespace is mounted there`);
    }
    return new Netns(fd, path);
  }

  static ofProcess(pid: number): Netns {
    return Netns.open(`/proc/${pid}/ns/net`);
  }

  /** Takes the descriptor over: it is closed with this object. */
  static adopt(fd: number, name = `fd ${fd}`): Netns {
    return new Netns(fd, name);
  }

  /** The kernel's number of this namespace, never used again after it is gone. @throws CulvertError SYSTEM */
  get cookie(): bigint {
    return (this.#cookie ??= attempt(`read cookie of netns ${this.name}`, () => native.netnsCookie(this.fd)));
  }

  /** "device:inode", equal for every open file of the same namespace while it lives. */
  get identity(): string {
    const { dev, ino } = fstatSync(this.fd);
    return `${dev}:${ino}`;
  }

  /** One operation in one entry of the namespace. @throws CulvertError SYSTEM naming operation and namespace */
  run<Op extends NetnsOp['op']>(op: Extract<NetnsOp, { op: Op }>): NetnsValues[Op] {
    return this.runAll([op])[0] as NetnsValues[Op];
  }

  /** Operations in order in one entry, up to the first refusal. @throws CulvertError SYSTEM naming it */
  runAll(ops: NetnsOp[]): unknown[] {
    const results = attempt(`enter netns ${this.name}`, () => native.netnsRun(this.fd, ops));
    return results.map((result, i) => {
      if (result.ok) return result.value;
      throw systemError(`run ${ops[i]?.op ?? 'operation'} in netns ${this.name}`, Object.assign(new Error(result.message), result));
    });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
