/** `culvert agent`: reads its configuration, runs until it is told to stop. */
import { agentConfigSchema } from '../agent/config.ts';
import { startAgent } from '../agent/agent.ts';
import { configHelp, loadConfig } from '../base/config.ts';
import { createLogger } from '../base/log.ts';
import { allSettings } from './settings.ts';

/** @returns the exit code. @throws CulvertError CONFIG_INVALID, and what starting throws */
export async function run(args: string[]): Promise<number> {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(`Usage: culvert agent [flags]\n\n${configHelp(agentConfigSchema)}\n`);
    return 0;
  }
  const config = loadConfig(agentConfigSchema, { args, env: process.env, otherKeys: allSettings });
  const log = createLogger('agent', config.logLevel);
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
    process.on('SIGHUP', () => undefined); // files are watched: there is nothing to reload
  });
  const agent = await startAgent(config, log);
  const signal = await stopped;
  log.info({ signal }, 'agent stops; what is enrolled goes on by its pins');
  await agent.close();
  return 0;
}
