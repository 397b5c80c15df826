/** helm itself, on our chart: with no configuration, cache or plugins but those of one call. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { KubeObject } from '../../src/kubernetes/api.ts';
import { tool } from './cluster/tools.ts';

export const CHART = join(import.meta.dirname, '../../deploy/chart');

/** The release that the cluster ring's API server has: without it helm renders for a Kubernetes of 2020. */
export const KUBE_VERSION = '1.34.4';

/** Tree of values, as a values file has it. */
export interface Values {
  [name: string]: unknown;
}

export interface HelmAnswer {
  /** exit code */
  code: number;
  stdout: string;
  stderr: string;
}

export interface HelmOptions {
  values?: Values;
  /** of an administrator; without it no cluster is asked */
  kubeconfig?: string;
}

/** @param args after `helm`, without values */
export async function helm(args: readonly string[], { values, kubeconfig }: HelmOptions = {}): Promise<HelmAnswer> {
  const home = mkdtempSync(join(tmpdir(), 'cvt-helm-'));
  try {
    const file = join(home, 'values.json');
    if (values !== undefined) writeFileSync(file, JSON.stringify(values));
    const all = [...args, ...(values === undefined ? [] : ['--values', file])];
    const env = { PATH: process.env['PATH'], HOME: home, KUBECONFIG: kubeconfig ?? '/dev/null' };
    return await new Promise((resolve) => {
      execFile(tool('helm'), all, { env, maxBuffer: 1 << 24 }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr });
      });
    });
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** `helm template` for a release "culvert". */
export function render(values: Values = {}, namespace = 'culvert-system'): Promise<HelmAnswer> {
  return helm(['template', 'culvert', CHART, '--namespace', namespace, '--kube-version', KUBE_VERSION], { values });
}

/** @throws when it is refused */
export async function rendered(values?: Values, namespace?: string): Promise<string> {
  const { code, stdout, stderr } = await render(values, namespace);
  if (code !== 0) throw new Error(`helm template: ${stderr}`);
  return stdout;
}

/** Objects of a rendering. */
export function manifests(text: string): (KubeObject & { kind: string })[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as (KubeObject & { kind: string }) | null)
    .filter((object) => object !== null);
}
