import { describe, expect, it } from 'vitest';
import { Faults, faultText } from '../../../../src/sources/xds/faults.ts';

describe('faults', () => {
  it('name resource, field, value and reason; long values are cut', () => {
    const faults = new Faults('shop/web');
    faults.add('uid', 'x'.repeat(500), 'too long');
    faults.add('address', new Uint8Array(500), 'too long');
    faults.add('resource', undefined, 'is missing');
    expect(faults.list[0]).toMatch(/^shop\/web: uid "x{78}…: too long$/);
    expect(faults.list[1]).toMatch(/^shop\/web: address 0x0{77}…: too long$/);
    expect(faults.list[2]).toBe('shop/web: resource: is missing');
  });

  it('stay within what a control plane receives, and count what is left out', () => {
    const text = faultText(Array.from({ length: 100_000 }, (_, index) => `resource ${index}: field: reason`));
    expect(text.length).toBeLessThan(600_000);
    const left = Number(/; and (\d+) more$/.exec(text)?.[1]);
    expect(text.split('; ').length - 1 + left).toBe(100_000);
  });
});
