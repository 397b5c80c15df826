/** A run counts only when redirect, tunnel and server agree with what the client did. */
import { describe, expect, test } from 'vitest';
import type { LoadResult } from '../../../src/sys/native.ts';
import { faultOf, type Evidence, type Path } from '../../../src/bench/validity.ts';

const load: LoadResult = {
  ...{ seconds: 1, operations: 900, allOperations: 1000, bytes: 900, allBytes: 1000, connections: 1000 },
  ...{ p50: 1, p99: 2, p999: 3, switches: 0, errors: {}, before: [], after: [] },
};
const seen: Evidence = { redirected: 1000, tunnel: 1000, server: 1000, received: 1000 };
const through: Path = { redirected: true, server: true };
const standIn: Path = { redirected: true, server: false };
const direct: Path = { redirected: false, server: true };

describe('the path was taken', () => {
  test.each<[string, Evidence, Path]>([
    ['through a tunnel', seen, through],
    ['to the stand-in', { ...seen, server: 0 }, standIn],
    ['directly', { ...seen, redirected: 0, tunnel: 0 }, direct],
    ['with a SYN or two counted twice', { ...seen, redirected: 1005 }, through],
  ])('%s', (_, evidence, path) => {
    expect(faultOf('connections', load, evidence, path)).toBeUndefined();
  });
});

describe('it was not', () => {
  test.each<[string, Partial<Evidence>, Path, RegExp]>([
    ['the redirect did not move', { redirected: 0 }, through, /redirect says that only 0 of 1000 connections were redirected/],
    ['one connection passed by the redirect', { redirected: 999 }, through, /only 999 of 1000/],
    ['the tunnel had fewer', { tunnel: 12 }, through, /tunnel says that only 12 of 1000/],
    ['the server had fewer', { server: 990 }, through, /server says that only 990 of 1000/],
    ['others used the path, too', { tunnel: 1200 }, through, /tunnel says that 1200 connections were taken, where the client made 1000/],
    ['the stand-in was passed by', { server: 1 }, standIn, /server says that 1 of 1000 .* must not be/],
    ['direct met a redirect', { redirected: 3, tunnel: 0 }, direct, /redirect says that 3 of 1000/],
    ['direct met the tunnel', { redirected: 0, tunnel: 1 }, direct, /tunnel says that 1 of 1000/],
  ])('%s', (_, changed, path, words) => {
    expect(faultOf('connections', load, { ...seen, ...changed }, path)).toMatch(words);
  });
});

describe('errors and emptiness', () => {
  test('one in a thousand is let pass, more is not, and they are named', () => {
    expect(faultOf('connections', { ...load, errors: { ETIMEDOUT: 1 } }, seen, through)).toBeUndefined();
    const two = { ...load, errors: { ETIMEDOUT: 1, EOF: 1 } };
    expect(faultOf('connections', two, seen, through)).toMatch(/2 of 1002 operations failed \(ETIMEDOUT 1, EOF 1\)/);
  });

  test('a redirect that counted the refused ones as well is right', () => {
    const some = { ...load, allOperations: 100_000, connections: 100_000, errors: { ECONNREFUSED: 90 } };
    const all = { redirected: 101_106, tunnel: 100_000, server: 100_000, received: 1 };
    expect(faultOf('connections', some, all, through)).toBeUndefined();
  });

  test('nothing done is nothing measured', () => {
    const idle = { ...load, operations: 0, allOperations: 0, connections: 0 };
    const none = { redirected: 0, tunnel: 0, server: 0, received: 0 };
    expect(faultOf('connections', idle, none, direct)).toMatch(/no operation/);
  });

  test('bulk that did not arrive is void', () => {
    const bulk = { ...load, allBytes: 1e9, connections: 4 };
    const counts = { redirected: 4, tunnel: 4, server: 4 };
    expect(faultOf('bulk', bulk, { ...counts, received: 0.97e9 }, through)).toBeUndefined();
    expect(faultOf('bulk', bulk, { ...counts, received: 0.5e9 }, through)).toMatch(/only 500000000 of 1000000000 bytes arrived/);
  });
});
