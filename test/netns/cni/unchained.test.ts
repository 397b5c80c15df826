/** Unchained: what `culvert install --unchained` wrote is what a meta plugin passes on, and the agent finds the addresses by itself. */
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { AgentScene, stop, until } from '../agent/scene.ts';
import { tree, type TestPod } from '../../support/netns.ts';

const run = promisify(execFile);
const built = (name: string): string => new URL(`../../../build/${name}`, import.meta.url).pathname;

let scene: AgentScene;
let pod: TestPod;
let agent: Awaited<ReturnType<AgentScene['startAgent']>>;

beforeAll(async () => {
  scene = await AgentScene.create('unch');
  pod = await scene.node.pod('a', 31);
  const mesh = {
    nodes: ['n1'],
    namespaces: { shop: { labels: { 'istio.io/dataplane-mode': 'ambient' } } },
    pods: [{ name: 'a', namespace: 'shop', node: 'n1' }],
  };
  writeFileSync(join(scene.dir, 'mesh.yaml'), JSON.stringify(mesh));
  writeFileSync(
    join(scene.dir, 'mesh.yaml.d/lab.json'),
    JSON.stringify({ pods: { 'shop/a': { uid: 'uid-a', ips: [], netns: pod.netns } } }),
  );
  agent = await scene.startAgent();
  scene.startTunnel();
  await until(
    async () => (await scene.status()).ready,
    () => scene.log,
  );
});
afterAll(async () => {
  await scene.close();
});

const install = (verb: string, ...more: string[]): Promise<unknown> => {
  const [binDir, confDir] = [join(scene.dir, 'bin'), join(scene.dir, 'multus')];
  return run(process.execPath, [built('../src/main.ts'), verb, '--cni-bin-dir', binDir, '--cni-conf-dir', confDir, ...more]);
};
const plugin = async (verb: string): Promise<string> => {
  const written = readFileSync(join(scene.dir, 'multus/YYY-culvert-cni.conf'), 'utf8');
  const env = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: 'c-a',
    CNI_NETNS: pod.netns,
    CNI_IFNAME: 'net1',
    CNI_PATH: join(scene.dir, 'bin'),
    CNI_ARGS: 'IgnoreUnknown=true;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=c-a;K8S_POD_UID=uid-a',
  };
  const child = run(join(scene.dir, 'bin/culvert-cni'), [], { env });
  child.child.stdin?.end(written);
  return (await child).stdout;
};

it('a pod that the meta plugin attaches is in the mesh when ADD answers, and out behind DEL', async () => {
  const settings = ['--run-dir', join(scene.dir, 'run'), '--state-dir', join(scene.dir, 'state')];
  mkdirSync(join(scene.dir, 'multus'));
  await install('install', '--unchained', '--plugin', built('culvert-cni'), ...settings);
  expect(await plugin('ADD')).toBe('{"cniVersion":"0.3.1"}\n');
  const [enrolled] = await scene.pods({ a: 'enrolled active' });
  expect(enrolled?.netnsCookie).not.toBe('');
  expect(await plugin('DEL')).toBe('');
  await scene.pods({ a: 'pending none' });
  expect(await plugin('DEL')).toBe('');
});

it('leaves nothing behind', async () => {
  await install('uninstall');
  expect(tree(join(scene.dir, 'multus'))).toEqual([]);
  expect(tree(join(scene.dir, 'bin'))).toEqual([]);
  expect(tree(scene.node.bpffs).filter((name) => name.includes('pods/'))).toEqual([]);
  expect(await stop(agent, 'SIGTERM')).toBe(0);
});
