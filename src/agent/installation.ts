/** The plugin on this host, as the agent's configuration wants it: installed once pods can be served, and kept there. */
import type { Logger } from '../base/log.ts';
import { Installation, type InstallationOptions } from '../install/installation.ts';
import { builtPlugin } from '../sys/assets.ts';
import { OWN_CONFIG, type AgentConfig } from './config.ts';

/** Not started yet; undefined when somebody else installs the plugin. */
export function installationOf(config: AgentConfig, log: Logger): Installation | undefined {
  return config.installPlugin ? new Installation(installationOptions(config), log.child({ part: 'install' })) : undefined;
}

export function installationOptions(config: AgentConfig): InstallationOptions {
  const { runDir, stateDir, onAgentDown, statusPolicy, ownConfig, cniConfName, chained } = config;
  return {
    plugin: config.pluginPath ?? builtPlugin(),
    binDir: config.cniBinDir,
    confDir: config.cniConfDir,
    ...(cniConfName === undefined ? {} : { confName: cniConfName }),
    ...(ownConfig === false ? {} : { ownConfig: ownConfig === true ? OWN_CONFIG : ownConfig }),
    chained,
    settings: { runDir, stateDir, onAgentDown, statusPolicy },
  };
}
