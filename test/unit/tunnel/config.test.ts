import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../../src/base/config.ts';
import { meshOrigin, readPairs, tunnelConfigSchema } from '../../../src/tunnel/config.ts';

const origin = (...args: string[]) =>
  meshOrigin(loadConfig(tunnelConfigSchema, { args: ['--node', 'n', ...args], env: {}, defaultFile: '/nonexistent' }));

describe('where the mesh comes from', () => {
  it('is the control plane when one is named, else the file', () => {
    const file = ['--mesh-file', '/mesh.yaml', '--ca-dir', '/ca'];
    expect(origin(...file)).toEqual({ source: 'file', meshFile: '/mesh.yaml', caDir: '/ca' });
    expect(origin('--xds-address', 'https://c:15012')).toEqual({
      source: 'xds',
      xdsAddress: 'https://c:15012',
      caAddress: 'https://c:15012',
    });
    expect(origin(...file, '--xds-address', 'c:1', '--ca-address', 'd:2')).toEqual({
      source: 'xds',
      xdsAddress: 'c:1',
      caAddress: 'd:2',
    });
  });

  it.each([
    [[], /xdsAddress or meshFile/],
    [['--mesh-file', '/mesh.yaml'], /caDir: a mesh file needs a local CA beside it/],
    [['--xds-address', 'c:1', '--root-cert', 'relative'], /rootCert/],
    [['--xds-address', 'c:1', '--xds-headers', 'no pair'], /xdsHeaders: .*"no pair"/],
    [['--xds-address', 'c:1', '--instance-ip', 'here'], /instanceIp/],
    [['--xds-address', 'c:1', '--certificate-lifetime-ms', '10'], /certificateLifetimeMs/],
  ])('%j is refused', (args, why) => {
    expect(() => origin(...args)).toThrow(why);
    expect(() => origin(...args)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});

it('reads headers and metadata from flags', () => {
  const args = ['--node', 'n', '--xds-headers', 'x-team=shop,x-empty=', '--node-metadata', 'NETWORK=n1'];
  const config = loadConfig(tunnelConfigSchema, { args, env: {}, defaultFile: '/nonexistent' });
  expect(readPairs(config.xdsHeaders)).toEqual({ 'x-team': 'shop', 'x-empty': '' });
  expect(readPairs(config.nodeMetadata)).toEqual({ NETWORK: 'n1' });
  expect(readPairs(['a=b=c', 'a=d=e'])).toEqual({ a: 'd=e' });
});
