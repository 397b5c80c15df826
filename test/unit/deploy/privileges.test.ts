/** What the chart lets its parts do on a node: the agent what test/netns/agent/privileges.test.ts measures that it needs, nobody more. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { NEEDED_CAPABILITIES } from '../../../src/agent/checks/capabilities.ts';

const ROOT = join(import.meta.dirname, '../../..');
const GOLDEN = join(ROOT, 'test/golden/chart');

interface SecurityContext {
  privileged: boolean;
  readOnlyRootFilesystem: boolean;
  capabilities: { drop: string[]; add?: string[] };
  seccompProfile?: { type: string };
}

interface Workload {
  kind: string;
  metadata: { name: string };
  spec: {
    template: { spec: { hostPID?: boolean; hostNetwork?: boolean; hostIPC?: boolean; containers: { securityContext: SecurityContext }[] } };
  };
}

function workloads(file: string): { name: string; pod: Workload['spec']['template']['spec']; security: SecurityContext }[] {
  return parseAllDocuments(readFileSync(join(GOLDEN, file), 'utf8'))
    .map((document) => document.toJS() as Workload)
    .filter(({ kind }) => kind === 'DaemonSet' || kind === 'Deployment' || kind === 'Job')
    .map(
      ({
        metadata: { name },
        spec: {
          template: { spec: pod },
        },
      }) => ({ name, pod, security: pod.containers[0]!.securityContext }),
    );
}

describe.each(readdirSync(GOLDEN))('privileges of %s', (file) => {
  it.each(workloads(file))('$name: capabilities and namespaces of the node', ({ name, pod, security }) => {
    expect(security).toMatchObject({ privileged: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
    expect(security.seccompProfile?.type).toBe(file === 'everything.yaml' ? 'Localhost' : 'RuntimeDefault');
    const added: Record<string, string[] | undefined> = {
      // the last for directories of nodes that do not belong to root, and for legacy iptables
      'culvert-node': [...NEEDED_CAPABILITIES, 'DAC_OVERRIDE', 'NET_RAW'],
      ztunnel: ['NET_ADMIN', 'SYS_ADMIN'],
    };
    expect(security.capabilities.add).toEqual(added[name]);
    const agent = name === 'culvert-node';
    expect({ hostPID: pod.hostPID, hostNetwork: pod.hostNetwork, hostIPC: pod.hostIPC }).toEqual({
      hostPID: agent ? true : undefined,
      hostNetwork: (agent && file !== 'everything.yaml') || name === 'culvert-leave' ? true : undefined,
      hostIPC: undefined,
    });
  });

  it('have their reason in the page of the chart', () => {
    const page = readFileSync(join(ROOT, 'deploy/chart/README.md'), 'utf8');
    for (const capability of workloads(file).flatMap(({ security }) => security.capabilities.add ?? [])) {
      expect(page).toMatch(new RegExp(`^\\| \`${capability}\` \\| \\S`, 'm'));
    }
  });
});
