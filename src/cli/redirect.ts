/** `culvert redirect on|off|show`: any namespace behind the redirect, without pod and without ZDS. */
import { closeSync, openSync } from 'node:fs';
import { Argument, type Command } from 'commander';
import type { RedirectStatus } from '../agent/api.ts';
import { CulvertError } from '../base/errors.ts';
import { ask } from './admin.ts';
import type { Cli } from './main.ts';
import { answer, counts } from './output.ts';
import { reading, type ReadingOptions } from './reading.ts';
import { findTargets } from './targets.ts';

interface RedirectOptions extends ReadingOptions {
  netns: string;
  dns?: boolean;
  ingressMode?: boolean;
  quiet?: boolean;
}

export function addRedirect(root: Command, cli: Cli): void {
  reading(root, 'redirect')
    .description('put a network namespace behind the redirect, take it out, or show it (debugging)')
    .addArgument(new Argument('<verb>').choices(['on', 'off', 'show']))
    .option('--netns <path>', 'the namespace', '/proc/self/ns/net')
    .option('--dns', 'with on: capture DNS too')
    .option('--ingress-mode', 'with on: capture nothing inbound but port 15008')
    .option('-q, --quiet', 'say nothing when it is done (for scripts)')
    .action(async (verb: 'on' | 'off' | 'show', options: RedirectOptions) => {
      const targets = findTargets(options);
      const [target] = targets;
      if (target === undefined || targets.length > 1)
        throw new CulvertError('USAGE', 'redirect: several nodes could be meant; say --node NAME');
      const fd = open(options.netns);
      try {
        const flags = {
          ...(options.dns === undefined ? {} : { dns: options.dns }),
          ...(options.ingressMode === undefined ? {} : { ingressMode: options.ingressMode }),
        };
        const request = verb === 'on' ? { op: 'redirect-on' as const, flags } : { op: `redirect-${verb}` as const };
        const result = await ask<RedirectStatus>(target, request, { fd });
        if (options.quiet === true) return;
        await answer(cli.io, options.output, result, () => ({
          head: ['NETNS COOKIE', 'DATAPATH', 'LISTENERS', 'OUT', 'IN', 'DROPPED'],
          rows: [
            [
              result.netnsCookie,
              result.datapath,
              result.listeners.map((listener) => `${listener.port}${listener.alive ? '' : ' (dead)'}`).join(', '),
              String(result.counters.outboundRedirected),
              String(result.counters.inboundRedirected),
              counts(result.counters.dropped),
            ],
          ],
        }));
      } finally {
        closeSync(fd);
      }
    });
}

/** Opened here and passed on: the agent may live in other mount and user namespaces than the caller. */
function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new CulvertError('NETNS_GONE', `open network namespace ${path}`, error);
  }
}
