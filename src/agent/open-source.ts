/** Where the agent learns which pods there are, and its way to the API server. What a source needs is loaded by who uses it. */
import { CulvertError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { KubeApi } from '../kubernetes/api.ts';
import { createFileSource } from '../sources/file/source.ts';
import type { Source } from '../sources/source.ts';
import type { AgentConfig } from './config.ts';

const FIELD_MANAGER = 'culvert-agent';

export type ClosableApi = KubeApi & { close(): void };

/** Undefined where nothing is asked of an API server. Nothing is connected before the first request. */
export async function openApi({ source, daemonSet, kubeconfig }: AgentConfig): Promise<ClosableApi | undefined> {
  if (source !== 'kubernetes' && daemonSet === undefined) return undefined;
  const { connectKubernetes } = await import('../kubernetes/client.ts');
  return connectKubernetes({ fieldManager: FIELD_MANAGER, ...(kubeconfig === undefined ? {} : { kubeconfig }) });
}

/** @param api of `openApi` */
export async function openSource(config: AgentConfig, api: ClosableApi | undefined, log: Logger): Promise<Source> {
  const { source, meshFile, node } = config;
  if (source === 'file' && meshFile !== undefined) return createFileSource({ meshFile, node });
  if (source === 'kubernetes' && api !== undefined) {
    const { createKubernetesSource } = await import('../sources/kubernetes/source.ts');
    return createKubernetesSource({ api, node, log: log.child({ part: 'source' }) });
  }
  throw new CulvertError('CONFIG_INVALID', `open source ${source}: its settings are missing`);
}
