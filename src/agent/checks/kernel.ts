/** What the kernel can, asked of the kernel. */
import { probeEbpf, type EbpfProbe } from '../../redirect/ebpf/index.ts';
import { Fault } from './check.ts';

export function lookAtKernel(options: Parameters<typeof probeEbpf>[0], probe: (o: typeof options) => EbpfProbe = probeEbpf): string {
  const { usable, checks, reasons } = probe(options);
  const all = `${checks.filter(({ ok }) => ok).length} of ${checks.length} features`;
  if (usable) return reasons.length === 0 ? all : `${all}; ${reasons.join('; ')}`;
  throw new Fault(
    `${all}; ${reasons.join('; ')}`,
    'Linux 5.15 or later, with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL; see docs/troubleshooting.md',
  );
}
