import { expect, test } from 'vitest';
import { agentConfigSchema } from '../../../src/agent/config.ts';
import { loadConfig } from '../../../src/base/config.ts';
import { allSettings } from '../../../src/cli/settings.ts';
import { controlConfigSchema } from '../../../src/control/config.ts';
import { tunnelConfigSchema } from '../../../src/tunnel/config.ts';

const env = {
  CULVERT_NODE: 'n1',
  CULVERT_MESH_FILE: '/mesh.yaml',
  CULVERT_XDS_ADDRESS: 'https://control:15012',
  CULVERT_ROOT_NAMESPACE: 'istio-system',
};

test.each([agentConfigSchema, tunnelConfigSchema, controlConfigSchema])('roles share an environment %#', (schema) => {
  expect(() => loadConfig(schema, { args: [], env, defaultFile: '/nonexistent', otherKeys: allSettings })).not.toThrow();
  const misspelt = { ...env, CULVERT_MESH_FLIE: '/x' };
  expect(() => loadConfig(schema, { args: [], env: misspelt, defaultFile: '/nonexistent', otherKeys: allSettings })).toThrow(
    /CULVERT_MESH_FLIE.*nearest is "CULVERT_MESH_FILE"/,
  );
});
