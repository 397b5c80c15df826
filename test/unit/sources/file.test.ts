import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { mergeMesh } from '../../../src/sources/file/merge.ts';
import { createFileSource } from '../../../src/sources/file/source.ts';
import type { MeshSnapshot } from '../../../src/sources/source.ts';

const MESH = `
nodes: [node1, node2]
namespaces:
  shop: { labels: { istio.io/dataplane-mode: ambient } }
pods:
  - { name: client, namespace: shop, node: node1, serviceAccount: client }
  - { name: web, namespace: shop, node: node2, labels: { app: web } }
services:
  - { name: web, namespace: shop, selector: { app: web }, ports: [ { port: 80, targetPort: 8080 } ] }
policies: []
`;
const LAB = JSON.stringify({
  pods: { 'shop/client': { uid: 'u1', ips: ['10.0.0.1', 'fd00::1'], netns: '/run/netns/a', phase: 'Running' }, 'shop/web': { uid: 'u2' } },
  services: { 'shop/web': { vips: ['10.96.0.1'] } },
});
const merge = (text: string, lab = LAB): ReturnType<typeof mergeMesh> =>
  mergeMesh({ mesh: { file: 'mesh.yaml', text }, lab: { file: 'lab.json', text: lab }, annotations: [] });
const faults = (text: string, lab?: string): string[] => {
  const merged = merge(text, lab);
  return merged.ok ? [] : merged.faults;
};

describe('mesh file', () => {
  it('becomes a snapshot together with what the lab and the agents wrote', () => {
    const merged = mergeMesh({
      mesh: { file: 'mesh.yaml', text: MESH },
      lab: { file: 'lab.json', text: LAB },
      annotations: [{ file: 'annotations-node1.json', text: '{"u1":{"ambient.istio.io/redirection":"enabled"}}' }],
    });
    if (!merged.ok) throw new Error(merged.faults.join());
    expect(merged.snapshot.trustDomain).toBe('cluster.local');
    expect(merged.snapshot.pods.get('u1')).toEqual({
      uid: 'u1',
      namespace: 'shop',
      name: 'client',
      node: 'node1',
      serviceAccount: 'client',
      labels: {},
      hostNetwork: false,
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
      ips: ['10.0.0.1', 'fd00::1'],
      netns: '/run/netns/a',
      phase: 'Running',
    });
    expect(merged.snapshot.pods.get('u2')).toMatchObject({ serviceAccount: 'default', ips: [], phase: 'Running' });
    expect(merged.snapshot.services.get('shop/web')).toMatchObject({ hostname: 'web.shop.svc.cluster.local', vips: ['10.96.0.1'] });
  });

  it('takes the port of a service as its target unless one is named', () => {
    const merged = merge(MESH.replace('{ port: 80, targetPort: 8080 }', '{ port: 80 }, { port: 81, targetPort: 8081 }'));
    expect(merged.ok && merged.snapshot.services.get('shop/web')?.ports).toEqual([
      { port: 80, targetPort: 80 },
      { port: 81, targetPort: 8081 },
    ]);
  });

  it('has no record of a pod without a uid', () => {
    const merged = merge(MESH, '{}');
    expect(merged.ok && merged.snapshot.pods.size).toBe(0);
  });

  it.each([
    ['syntax', 'nodes: [a\npods: ]', 'line 2'],
    ['node', MESH.replace('node: node2', 'node: node3'), 'pods[1].node: "node3" is no node'],
    ['namespace', MESH.replace('namespace: shop, node: node2', 'namespace: shup, node: node2'), 'pods[1].namespace: "shup"'],
    [
      'twice',
      MESH.replace('name: web, namespace: shop, node', 'name: client, namespace: shop, node'),
      'pods[1]: "shop/client" is there already',
    ],
    ['unknown key', MESH.replace('serviceAccount:', 'serviceAcount:'), 'serviceAcount'],
    [
      'type',
      MESH.replace('port: 80,', 'port: eighty,'),
      'services[0].ports[0].port: Invalid input: expected number, received string, found "eighty"',
    ],
    [
      'policy',
      MESH.replace('policies: []', 'policies: [ { kind: AuthorizationPolicy } ]'),
      'policies: policy is not enforced by this version',
    ],
    [
      'state as intent',
      MESH.replace('labels: { app: web }', 'annotations: { ambient.istio.io/redirection: enabled }'),
      'state written by the agent',
    ],
    ['empty', '', 'nodes'],
  ])('names a fault of %s with file, path and value', (_, text, message) => {
    const found = faults(text);
    expect(found.join('\n')).toContain(message);
    for (const fault of found) expect(fault).toMatch(/^mesh\.yaml: /);
  });

  it('names two pods with one address, and a bad address', () => {
    const lab = (ips: string[]): string =>
      JSON.stringify({ pods: { 'shop/client': { uid: 'u1', ips: ['10.0.0.1'] }, 'shop/web': { uid: 'u2', ips } } });
    expect(faults(MESH, lab(['10.0.0.1']))).toEqual([
      'lab.json: pods["shop/web"].ips: address 10.0.0.1 belongs to pods["shop/client"].ips already',
    ]);
    expect(faults(MESH, lab(['10.0.0.256'])).join()).toContain('must be an IPv4 or IPv6 address, found "10.0.0.256"');
  });

  it('reports all faults at once', () => {
    expect(faults(MESH.replace('node: node1', 'node: x').replace('node: node2', 'node: y'))).toHaveLength(2);
  });
});

describe('file source', () => {
  let directory: string;
  let file: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'cvt-source-'));
    file = join(directory, 'mesh.yaml');
    writeFileSync(file, MESH);
    mkdirSync(`${file}.d`);
    writeFileSync(`${file}.d/lab.json`, LAB);
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  const replace = (path: string, text: string): void => {
    writeFileSync(`${path}.tmp`, text);
    renameSync(`${path}.tmp`, path);
  };

  it('delivers changes, keeps the last good snapshot over a bad edit, reports that once', async () => {
    const source = createFileSource({ meshFile: file });
    const seen: MeshSnapshot[] = [];
    const errors: Error[] = [];
    const watch = source.watch(
      (s) => seen.push(s),
      (e) => errors.push(e),
    );
    try {
      await vi.waitFor(() => {
        expect(seen).toHaveLength(1);
      });
      expect(source.synced()).toBe(true);
      replace(file, 'nodes: 7');
      await vi.waitFor(() => {
        expect(errors).toHaveLength(1);
      });
      expect(errors[0]).toMatchObject({ code: 'SOURCE_INVALID' });
      writeFileSync(file, 'nodes: 7'); // again the same, and in place
      replace(file, MESH.replace('ambient }', 'none }'));
      await vi.waitFor(() => {
        expect(seen).toHaveLength(2);
      });
      expect(seen[1]?.namespaces.get('shop')?.labels).toEqual({ 'istio.io/dataplane-mode': 'none' });
      replace(`${file}.d/lab.json`, LAB.replace('10.0.0.1', '10.0.0.9'));
      await vi.waitFor(() => {
        expect(seen).toHaveLength(3);
      });
      expect(errors).toHaveLength(1);
    } finally {
      watch.close();
    }
  });

  it('sees the directory that comes later', async () => {
    rmSync(`${file}.d`, { recursive: true });
    const source = createFileSource({ meshFile: file });
    const seen: MeshSnapshot[] = [];
    const watch = source.watch(
      (s) => seen.push(s),
      () => undefined,
    );
    try {
      await vi.waitFor(() => {
        expect(seen).toHaveLength(1);
      });
      mkdirSync(`${file}.d`);
      replace(`${file}.d/lab.json`, LAB);
      await vi.waitFor(() => {
        expect(seen.at(-1)?.pods.size).toBe(2);
      });
    } finally {
      watch.close();
    }
  });

  it('annotates durably, many at once, and others see it', async () => {
    const agent = createFileSource({ meshFile: file, node: 'node1' });
    const tunnel = createFileSource({ meshFile: file });
    let latest: MeshSnapshot | undefined;
    const watches = [
      agent.watch(
        () => undefined,
        () => undefined,
      ),
      tunnel.watch(
        (s) => {
          latest = s;
        },
        () => undefined,
      ),
    ];
    try {
      await vi.waitFor(() => {
        expect(latest && agent.synced()).toBeTruthy();
      });
      const pod = (uid: string): { uid: string; namespace: string; name: string } => ({ uid, namespace: 'shop', name: uid });
      await Promise.all([
        agent.annotate(pod('u1'), 'k', 'v'),
        agent.annotate(pod('u2'), 'k', 'w'),
        agent.annotate(pod('u1'), 'l', 'x'),
        agent.annotate(pod('gone'), 'k', 'v'),
      ]);
      expect(JSON.parse(readFileSync(`${file}.d/annotations-node1.json`, 'utf8'))).toEqual({ u1: { k: 'v', l: 'x' }, u2: { k: 'w' } });
      await vi.waitFor(() => {
        expect(latest?.pods.get('u1')?.annotations).toEqual({ k: 'v', l: 'x' });
      });
      await agent.annotate(pod('u1'), 'k', undefined);
      await agent.annotate(pod('u1'), 'l', undefined);
      expect(JSON.parse(readFileSync(`${file}.d/annotations-node1.json`, 'utf8'))).toEqual({ u2: { k: 'w' } });
      expect(readdirSync(`${file}.d`).sort()).toEqual(['annotations-node1.json', 'lab.json']);
      await expect(tunnel.annotate(pod('u1'), 'k', 'v')).rejects.toThrow('belongs to no node');
    } finally {
      for (const watch of watches) watch.close();
    }
  });
});
