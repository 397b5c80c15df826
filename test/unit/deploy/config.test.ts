/** What helm renders (test/cluster/chart proves that the golden files are it), read by the parts that it is for. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import type { z } from 'zod';
import { agentConfigSchema, checkAgentConfig } from '../../../src/agent/config.ts';
import { loadConfig } from '../../../src/base/config.ts';
import { controlConfigSchema } from '../../../src/control/config.ts';
import { meshOrigin, tunnelConfigSchema } from '../../../src/tunnel/config.ts';

const GOLDEN = join(import.meta.dirname, '../../golden/chart');

interface Manifest {
  kind: string;
  metadata: { name: string };
  data?: Record<string, string>;
  spec: { template: { spec: { containers: { command: string[]; env?: { name: string; value?: string }[] }[] } } };
}

let directory: string;
beforeAll(() => (directory = mkdtempSync(join(tmpdir(), 'cvt-chart-'))));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** @param file a golden file */
function manifests(file: string): Manifest[] {
  return parseAllDocuments(readFileSync(join(GOLDEN, file), 'utf8')).map((document) => document.toJS() as Manifest);
}

/** Settings of one part as it would read them in its container; undefined when that part is not installed. */
function settings<S extends z.ZodObject>(all: Manifest[], name: string, schema: S): z.infer<S> | undefined {
  const text = all.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === name)?.data?.['config.yaml'];
  if (text === undefined) return undefined;
  const file = join(directory, `${name}.yaml`);
  writeFileSync(file, text);
  const workload = all.find(({ kind, metadata }) => ['DaemonSet', 'Deployment'].includes(kind) && metadata.name === name)!;
  // what is taken from the pod is some name or address
  const env = workload.spec.template.spec.containers[0]!.env?.map(({ name: variable, value = '10.0.0.1' }) => [variable, value]);
  return loadConfig(schema, { args: ['--config', file], env: Object.fromEntries(env ?? []) as NodeJS.ProcessEnv });
}

describe.each(readdirSync(GOLDEN))('settings of %s', (file) => {
  const all = manifests(file);

  it('are what the agent understands', () => {
    const config = settings(all, 'culvert-node', agentConfigSchema)!;
    checkAgentConfig(config);
    expect(config).toMatchObject({ source: 'kubernetes', installPlugin: true, node: '10.0.0.1' });
  });

  it('are what the tunnel understands', () => {
    const config = settings(all, 'ztunnel', tunnelConfigSchema);
    expect(config === undefined).toBe(file === 'agent-only.yaml');
    if (config !== undefined) expect(meshOrigin(config)).toMatchObject({ source: 'xds' });
  });

  it('are what control understands', () => {
    const config = settings(all, 'culvert-control', controlConfigSchema);
    expect(config === undefined).toBe(file === 'agent-only.yaml' || file === 'istiod.yaml');
    if (config !== undefined) expect(config.nodeAccounts).toContain('culvert-system/ztunnel');
  });

  it('let the mesh start itself: its own pods pass while the agent is away', () => {
    const { ownPods } = settings(all, 'culvert-node', agentConfigSchema)!;
    for (const { kind, metadata } of all.filter(({ kind: each }) => each === 'DaemonSet' || each === 'Deployment')) {
      expect(
        ownPods.map(({ namePrefix }) => namePrefix),
        kind,
      ).toContain(`${metadata.name}-`);
    }
  });
});

it('where the control plane is follows from what is installed', () => {
  const address = (file: string): string | undefined => settings(manifests(file), 'ztunnel', tunnelConfigSchema)?.xdsAddress;
  expect(address('without-istio.yaml')).toBe('https://culvert-control.culvert-system.svc:15012');
  expect(address('istiod.yaml')).toBe('https://istiod-canary.istio-system.svc:15012');
  expect(address('everything.yaml')).toBe('https://control.example.com:15012');
});
