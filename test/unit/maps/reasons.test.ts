import { describe, expect, test } from 'vitest';
import { REASON, reasonOf, reasons, summarize } from '../../../src/maps/index.ts';

describe('reasons', () => {
  test.each([
    ['OUT_PASS_OWN', 'outbound', 'passed', 'own'],
    ['OUT_DROP_DNS_NO_TUNNEL', 'outbound', 'dropped', 'dns-no-tunnel'],
    ['OUT_REDIRECT_ACCEPTED', 'outbound', 'redirected', 'accepted'],
    ['IN_REDIRECT_HBONE', 'inbound', 'redirected', 'hbone'],
    ['IN_PASS_EXEMPT', 'inbound', 'passed', 'exempt'],
    ['REG_REFUSED', 'other', 'other', 'reg-refused'],
    ['MISC_APP_MARK', 'other', 'other', 'app-mark'],
  ] as const)('%s', (name, direction, verdict, reason) => {
    expect(reasonOf(REASON[name])).toEqual({ number: REASON[name], name, direction, verdict, reason });
  });

  test('numbers and names are unique, and fit the event class masks', () => {
    expect(new Set(reasons.map((r) => r.number)).size).toBe(reasons.length);
    expect(new Set(reasons.map((r) => `${r.direction} ${r.verdict} ${r.reason}`)).size).toBe(reasons.length);
    expect(Math.max(...reasons.map((r) => r.number))).toBeLessThan(64);
  });

  test('every OUT and IN reason has a verdict', () => {
    for (const { name, verdict } of reasons) expect(verdict === 'other').toBe(/^(REG|MISC)_/.test(name));
  });

  test('a number of a later version is itself', () => {
    expect(reasonOf(63)).toEqual({ number: 63, name: 'REASON_63', direction: 'other', verdict: 'other', reason: 'reason-63' });
  });
});

describe('summary of counts', () => {
  const counts = (table: Partial<Record<keyof typeof REASON, number>>): Map<number, number> =>
    new Map(Object.entries(table).map(([name, n]) => [REASON[name as keyof typeof REASON], n]));

  test('nothing', () => {
    expect(summarize(new Map())).toEqual({
      outboundRedirected: 0,
      inboundRedirected: 0,
      outboundPassed: {},
      inboundPassed: {},
      dropped: {},
    });
  });

  test('a captured connection is counted once, though seen twice', () => {
    expect(summarize(counts({ OUT_REDIRECT_TUNNEL: 3, OUT_REDIRECT_ACCEPTED: 3, OUT_REDIRECT_DNS_UDP: 2 })).outboundRedirected).toBe(5);
  });

  test('reasons by direction and verdict; drops of both directions together', () => {
    const table = counts({
      IN_REDIRECT_TUNNEL: 1,
      IN_REDIRECT_HBONE: 2,
      OUT_PASS_OWN: 3,
      IN_PASS_EXEMPT: 4,
      OUT_DROP_NO_TUNNEL: 5,
      IN_DROP_NO_TUNNEL: 6,
      OUT_DROP_DEVICE: 7,
      REG_LISTENER: 8,
      MISC_BIND_REUSE: 9,
    });
    expect(summarize(table)).toEqual({
      outboundRedirected: 0,
      inboundRedirected: 3,
      outboundPassed: { own: 3 },
      inboundPassed: { exempt: 4 },
      dropped: { 'no-tunnel': 11, device: 7 },
    });
  });
});
