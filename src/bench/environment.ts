/** The machine that a report is about. */
import { arch, availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { readFileSync } from 'node:fs';
import { median } from 'simple-statistics';
import { version } from '../base/version.ts';
import { attempt } from '../lab/command.ts';
import type { BenchOptions } from './options.ts';
import { POD_SYSCTLS } from './pair.ts';
import type { Environment } from './report.ts';

export type Load = [number, number, number];

export function loadNow(): Load {
  return loadavg() as Load;
}

/** Asked before anything is measured. */
export async function environmentOf(options: BenchOptions): Promise<Omit<Environment, 'loadAfter' | 'strangers'>> {
  const [iptables, nft] = await Promise.all([firstLine(['iptables', '--version']), firstLine(['nft', '--version'])]);
  const virtual = hypervisor();
  return {
    ...{
      kernel: release(),
      arch: arch(),
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cpus: availableParallelism(),
      memoryBytes: totalmem(),
    },
    ...{ culvert: version, node: process.version },
    ...(iptables === undefined ? {} : { iptables }),
    ...(nft === undefined ? {} : { nft }),
    ...(virtual === undefined ? {} : { virtual }),
    loadBefore: loadNow(),
    sysctls: { ...POD_SYSCTLS },
    ...{ nodes: options.nodes, threads: options.sizes.threads, streams: options.sizes.streams },
  };
}

export function strangersOf(shares: readonly number[]): Environment['strangers'] {
  return shares.length === 0 ? { median: 0, max: 0 } : { median: median([...shares]), max: Math.max(...shares) };
}

/** undefined when there is no such program, or it does not answer */
export async function firstLine(argv: string[]): Promise<string | undefined> {
  try {
    const { code, stdout } = await attempt(argv, { timeoutMs: 5000 });
    return code === 0 ? stdout.split('\n')[0]?.trim() : undefined;
  } catch {
    return undefined;
  }
}

function hypervisor(): string | undefined {
  if (!/^flags\s*:.*\bhypervisor\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'))) return undefined;
  try {
    return readFileSync('/sys/class/dmi/id/sys_vendor', 'utf8').trim();
  } catch {
    return 'a virtual machine';
  }
}
