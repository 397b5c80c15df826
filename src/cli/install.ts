/** `culvert install`: the plugin's executable and its entry on this host, once or kept there. */
import { join } from 'node:path';
import { Option, type Command } from 'commander';
import { createLogger } from '../base/log.ts';
import { STANDALONE, type PluginSettings } from '../install/conflist.ts';
import type { Installation, InstallationOptions } from '../install/installation.ts';
import { builtPlugin } from '../sys/assets.ts';
import { hostDirectories, type HostDirectories } from './host-directories.ts';
import type { Cli } from './main.ts';
import { answer, formatOption, type Format } from './output.ts';

interface InstallOptions extends HostDirectories, PluginSettings {
  cniConfName?: string;
  ownConfig?: string | true;
  unchained?: boolean;
  plugin?: string;
  watch?: boolean;
  output?: Format;
}

const OWN_CONFIG = '02-culvert.conflist';

export function addInstall(root: Command, cli: Cli): void {
  hostDirectories(root.command('install'))
    .description('put culvert-cni and its entry in the network configuration onto this host; waits until there is one to join')
    .option('--cni-conf-name <file>', 'the configuration to join (default: the first valid one, as runtimes choose)')
    .option('--own-config [file]', `leave the configuration as it is and put a copy with our entry before it (default file: ${OWN_CONFIG})`)
    .addOption(
      new Option(
        '--unchained',
        `join no configuration: make one of our own (default file: ${STANDALONE}), for a meta plugin such as Multus to run behind the pod's network`,
      ).conflicts('ownConfig'),
    )
    .option('--plugin <file>', 'the executable to install (default: the culvert-cni built with this program)')
    .option('--run-dir <dir>', "where the plugin finds the agent's socket", '/var/run/culvert')
    .option('--state-dir <dir>', 'where the agent keeps what the plugin decides by while it is away', '/var/lib/culvert')
    .addOption(
      new Option('--on-agent-down <policy>', 'which pods may start then: none, those known not to be enrolled, all')
        .choices(['closed', 'known', 'open'])
        .default('known'),
    )
    .addOption(
      new Option('--status-policy <policy>', 'when STATUS is unwell, and so the node: never, or while the agent is not ready')
        .choices(['node-ready', 'agent-ready'])
        .default('node-ready'),
    )
    .option('--watch', 'stay, and repair what others take away, until SIGTERM; everything is left in place then')
    .addOption(formatOption())
    .action(async (options: InstallOptions) => {
      const { Installation } = await import('../install/installation.ts');
      const log = createLogger('install', options.watch === true ? 'info' : 'warn');
      const { promise: ready, resolve: placed } = Promise.withResolvers<undefined>();
      const installation = new Installation(installationOptions(options), log, {
        onChange: (state) => {
          if (state.ready) placed(undefined);
          else cli.io.err(`culvert: ${state.reason}\n`);
        },
      });
      const stop = stopSignal();
      try {
        await installation.start();
        if ((await Promise.race([ready, stop.came])) === 'stopped') cli.exit.code = 1;
        else await say(cli, options, installation);
        if (options.watch === true) await stop.came;
      } finally {
        await installation.close();
        stop.release();
      }
    });
}

function installationOptions(options: InstallOptions): InstallationOptions {
  const { runDir, stateDir, onAgentDown, statusPolicy, ownConfig, unchained } = options;
  return {
    plugin: options.plugin ?? builtPlugin(),
    binDir: options.cniBinDir,
    confDir: options.cniConfDir,
    ...(options.cniConfName === undefined ? {} : { confName: options.cniConfName }),
    ...(ownConfig === undefined ? {} : { ownConfig: ownConfig === true ? OWN_CONFIG : ownConfig }),
    chained: unchained !== true,
    settings: { runDir, stateDir, onAgentDown, statusPolicy },
  };
}

async function say(cli: Cli, options: InstallOptions, installation: Installation): Promise<void> {
  const document = {
    executable: join(options.cniBinDir, 'culvert-cni'),
    configuration: join(options.cniConfDir, installation.state.file ?? ''),
    written: installation.installs.SUCCESS > 0,
  };
  await answer(cli.io, options.output, document, () => ({
    head: ['EXECUTABLE', 'CONFIGURATION', 'WRITTEN'],
    rows: [[document.executable, document.configuration, document.written ? 'yes' : 'no, it was there']],
  }));
}

function stopSignal(): { came: Promise<'stopped'>; release(): void } {
  const { promise, resolve } = Promise.withResolvers<'stopped'>();
  const stop = (): void => resolve('stopped');
  const signals = ['SIGTERM', 'SIGINT'] as const;
  for (const signal of signals) process.once(signal, stop);
  return {
    came: promise,
    release: () => {
      for (const signal of signals) process.off(signal, stop);
    },
  };
}
