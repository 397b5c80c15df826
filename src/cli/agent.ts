/** `culvert agent`: reads its configuration, runs until it is told to stop. */
import { startAgent } from '../agent/agent.ts';
import { agentConfigSchema, checkAgentConfig } from '../agent/config.ts';
import { configHelp, loadConfig } from '../base/config.ts';
import { createLogger } from '../base/log.ts';
import { stopSignal, surviveRejections } from './process.ts';
import { allSettings } from './settings.ts';

/** @returns the exit code. @throws CulvertError CONFIG_INVALID, and what starting throws */
export async function run(args: string[]): Promise<number> {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(`Usage: culvert agent [flags]\n\n${configHelp(agentConfigSchema)}\n`);
    return 0;
  }
  const config = loadConfig(agentConfigSchema, { args, env: process.env, otherKeys: allSettings });
  checkAgentConfig(config);
  const log = createLogger('agent', config.logLevel);
  surviveRejections(log);
  const stopped = stopSignal();
  process.on('SIGHUP', () => undefined); // files are watched: there is nothing to reload
  const agent = await startAgent(config, log);
  const failed = agent.failure.then((error) => ({ error }));
  const end = await Promise.race([stopped, failed]);
  if (typeof end === 'string') return (await agent.stop()) ? 0 : 1;
  await agent.close();
  throw end.error;
}
