/** All roles read one configuration file and environment: what is a setting of another role is no mistake. */
import { agentConfigSchema } from '../agent/config.ts';
import { controlConfigSchema } from '../control/config.ts';
import { tunnelConfigSchema } from '../tunnel/config.ts';

export const allSettings: readonly string[] = [
  ...new Set([agentConfigSchema, tunnelConfigSchema, controlConfigSchema].flatMap(({ shape }) => Object.keys(shape))),
];
