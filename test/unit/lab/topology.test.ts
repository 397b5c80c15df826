import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { CulvertError } from '../../../src/base/errors.ts';
import { parseChange, relabel } from '../../../src/lab/label.ts';
import { defaultTopology, parseTopology } from '../../../src/lab/topology.ts';

const MODE = 'istio.io/dataplane-mode';

function faultOf(act: () => unknown): CulvertError {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(CulvertError);
    return error as CulvertError;
  }
  throw new Error('it was accepted');
}

describe('topology', () => {
  test('the default one is two nodes with four pods', () => {
    const topology = parseTopology(defaultTopology, 'default');
    expect(topology.nodes).toEqual(['node1', 'node2']);
    expect(topology.pods.map((pod) => `${pod.namespace}/${pod.name}@${pod.node}`)).toEqual([
      'shop/client@node1',
      'shop/web-1@node1',
      'shop/web-2@node2',
      'legacy/old@node2',
    ]);
  });

  test.each([
    ['malformed YAML', 'nodes: [node1\nnamespaces: {}\n', /line 2/],
    ['an unknown key', defaultTopology.replace('trustDomain', 'x').replace('policies:', 'polices:'), /polices/],
    ['an unknown node', defaultTopology.replace('node: node2', 'node: node3'), /pods\[2\]\.node: "node3"/],
    ['an unknown namespace', defaultTopology.replace('namespace: legacy, node', 'namespace: lost, node'), /pods\[3\]\.namespace: "lost"/],
    ['a pod twice', defaultTopology.replace('name: web-2', 'name: web-1'), /web-1.*already/],
    ['policies', defaultTopology.replace('policies: []', 'policies: [{}]'), /policies: policy is not enforced/],
    ['a port that is none', defaultTopology.replace('port: 80,', 'port: 0,'), /services\[0\]\.ports\[0\]\.port/],
  ])('%s is refused with its place', (_, yaml, message) => {
    const fault = faultOf(() => parseTopology(yaml, 'mesh.yaml'));
    expect(fault.code).toBe('CONFIG_INVALID');
    expect(fault.message).toMatch(message);
    expect(fault.message).toMatch(/mesh\.yaml/);
  });
});

describe('label', () => {
  const labels = (yaml: string): unknown => (parse(yaml) as { namespaces: { shop: { labels: unknown } } }).namespaces.shop.labels;

  test('removes, sets and keeps comments', () => {
    const off = relabel(defaultTopology, 'x', 'namespace', 'shop', [parseChange(`${MODE}-`)]);
    expect(labels(off)).toEqual({});
    expect(off).toContain('# name, namespace, node, serviceAccount');
    const on = relabel(off, 'x', 'namespace', 'shop', [parseChange(`${MODE}=ambient`)]);
    expect(labels(on)).toEqual({ [MODE]: 'ambient' });
    expect(parseTopology(on, 'x')).toEqual(parseTopology(defaultTopology, 'x'));
  });

  test('a pod that had no labels gets some', () => {
    const yaml = relabel(defaultTopology, 'x', 'pod', 'shop/client', [parseChange(`${MODE}=none`), parseChange('tier=1')]);
    expect(parseTopology(yaml, 'x').pods[0]?.labels).toEqual({ [MODE]: 'none', tier: '1' });
  });

  test('removing what is not there changes nothing', () => {
    const yaml = relabel(defaultTopology, 'x', 'pod', 'shop/client', [parseChange('tier-')]);
    expect(parseTopology(yaml, 'x')).toEqual(parseTopology(defaultTopology, 'x'));
  });

  test('strangers are named beside what there is', () => {
    expect(faultOf(() => relabel(defaultTopology, 'x', 'namespace', 'shp', [])).message).toMatch(/shp.*shop, legacy/);
    expect(faultOf(() => relabel(defaultTopology, 'x', 'pod', 'shop/web', [])).message).toMatch(/shop\/web-1/);
    expect(faultOf(() => parseChange('what')).code).toBe('USAGE');
  });
});
