import { describe, expect, it } from 'vitest';
import { parseControlPlaneAddress } from '../../../src/rpc/address.ts';

describe("control plane's address", () => {
  it.each([
    ['https://istiod.istio-system.svc:15012', 'https://istiod.istio-system.svc:15012', 'istiod.istio-system.svc'],
    ['istiod.istio-system.svc:15012', 'https://istiod.istio-system.svc:15012', 'istiod.istio-system.svc'],
    ['https://control/', 'https://control:443', 'control'],
    ['10.0.0.1:15012', 'https://10.0.0.1:15012', '10.0.0.1'],
    ['[fd00::1]:15012', 'https://[fd00::1]:15012', 'fd00::1'],
    ['https://[fd00::1]', 'https://[fd00::1]:443', 'fd00::1'],
    ['localhost:443', 'https://localhost:443', 'localhost'],
  ])('reads %s', (text, url, host) => {
    expect(parseControlPlaneAddress(text)).toEqual({ url, host, target: `dns:${url.slice('https://'.length)}` });
  });

  it.each(['http://control:15012', 'unix:///run/x', '', 'control:0', 'control:70000', 'control:15012/path', 'a b:1', 'user:pw@control:1'])(
    'refuses "%s" and says what it was',
    (text) => {
      expect(() => parseControlPlaneAddress(text)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
      expect(() => parseControlPlaneAddress(text)).toThrow(`"${text}"`);
    },
  );
});
