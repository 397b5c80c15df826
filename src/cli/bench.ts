/** `culvert bench`: only its shape; what it does is loaded when it is called. */
import type { Command } from 'commander';
import type { BenchFlags } from '../bench/options.ts';
import type { Cli } from './main.ts';
import { formatOption, type Format } from './output.ts';

const TIME = `
It builds a lab of its own beside whatever runs here, and takes it down again. As called without flags it takes about 20 minutes
on two processors; --quick answers in some 20 seconds. Each round of one tunnel takes about 10 seconds per scenario. Nothing else
should run meanwhile: the report says how much did. Exit code 1 when the counters do not prove that the intended path was taken.`;

type Flags = BenchFlags & { output?: Format; from?: string };

export function addBench(root: Command, cli: Cli): void {
  root
    .command('bench')
    .description('measure the redirects against each other and against no mesh, on this machine')
    .option(
      '--scenarios <list>',
      'of direct, direct-2 (its twin: the noise), iptables, nftables, ebpf, geneve; all but nftables by default',
    )
    .option('--tunnel <list>', 'of none (a stand-in that echoes: the redirect alone), builtin, external; none,builtin by default')
    .option('--ztunnel <path>', "executable of the external tunnel: Istio's ztunnel")
    .option('--rounds <n>', 'how often each is measured, at least 5; 10 by default')
    .option('--seconds <s>', 'measured time of one run; 1.5 by default')
    .option('--nodes <n>', '1: client and server on one node, the default; 2: on two')
    .option('--quick', 'a first look, not to be quoted: few and short rounds, no mesh, iptables and ebpf with the stand-in')
    .option('--out <dir>', 'where report.json and report.html go', './culvert-bench')
    .option('--from <file>', 'a report.json of before: measure nothing, draw its table and its page again into --out')
    .addOption(formatOption())
    .addHelpText('after', TIME)
    .action(async (flags: Flags) => {
      const { bench } = await import('./bench-action.ts');
      await bench(cli, flags);
    });
  addHidden(root, cli);
}

/** Roles that the benchmark starts inside its pods and tunnels. */
function addHidden(root: Command, cli: Cli): void {
  root.command('bench-load', { hidden: true }).action(async () => {
    const { runLoads } = await import('../bench/load.ts');
    await runLoads(process.stdin, cli.io.out);
  });
  root
    .command('bench-serve', { hidden: true })
    .requiredOption('--counts <socket>')
    .action(async ({ counts }: { counts: string }) => {
      const { runServe } = await import('../bench/serve.ts');
      await runServe(counts);
    });
  root
    .command('bench-tunnel', { hidden: true })
    .requiredOption('--counts <directory>')
    .requiredOption('--zds-socket <socket>')
    .requiredOption('--node <node>')
    .action(async ({ counts, zdsSocket, node }: { counts: string; zdsSocket: string; node: string }) => {
      const { runStandIn } = await import('../bench/stand-in.ts');
      await runStandIn(zdsSocket, counts, node);
    });
}
