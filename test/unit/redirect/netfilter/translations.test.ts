/** What conntrack says of a connection, as an event of the redirect. */
import { describe, expect, it } from 'vitest';
import { eventOf, type Watched } from '../../../../src/redirect/netfilter/translations.ts';

const POD: Watched = { cookie: 7n, netnsFd: -1, addresses: ['10.0.0.1', 'fd00::1'], active: true, ingressMode: false };

function event(from: string, to: string, answers = to, over: Partial<Watched> & { protocol?: number } = {}): string | undefined {
  const end = (text: string): { address: string; port: number } => ({
    address: text.slice(0, text.lastIndexOf(':')),
    port: Number(text.slice(text.lastIndexOf(':') + 1)),
  });
  const { protocol = 6, ...watched } = over;
  const told = eventOf({ ...POD, ...watched }, { protocol, source: end(from), destination: end(to), answers: end(answers) });
  return told === undefined ? undefined : `${told.direction} ${told.verdict} ${told.reason} ${told.src ?? ''} ${told.dst}`;
}

describe('a new connection', () => {
  it.each([
    ['10.0.0.1:5000', '10.9.9.9:80', '127.0.0.1:15001', 'outbound redirected accepted 10.0.0.1:5000 10.9.9.9:80'],
    ['fd00::1:5000', 'fd00::9:80', '::1:15001', 'outbound redirected accepted [fd00::1]:5000 [fd00::9]:80'],
    ['10.9.9.9:5000', '10.0.0.1:80', '10.0.0.1:15006', 'inbound redirected tunnel 10.9.9.9:5000 10.0.0.1:80'],
    ['192.168.1.2:5000', '10.9.9.9:80', '192.168.1.1:15001', 'outbound redirected accepted 192.168.1.2:5000 10.9.9.9:80'],
    ['10.9.9.9:5000', '10.0.0.1:15008', '10.0.0.1:15008', 'inbound redirected hbone 10.9.9.9:5000 10.0.0.1:15008'],
    ['10.0.0.1:5000', '10.0.0.1:80', '10.0.0.1:80', 'outbound passed own 10.0.0.1:5000 10.0.0.1:80'],
    ['127.0.0.1:5000', '127.0.0.1:80', '127.0.0.1:80', 'outbound passed loopback 127.0.0.1:5000 127.0.0.1:80'],
    ['10.0.0.1:5000', '10.9.9.9:15008', '10.9.9.9:15008', 'outbound passed tunnel 10.0.0.1:5000 10.9.9.9:15008'],
    ['10.9.9.9:5000', '10.0.0.1:80', '10.0.0.1:80', 'inbound passed inner 10.9.9.9:5000 10.0.0.1:80'],
    ['169.254.7.127:5000', '10.0.0.1:80', '10.0.0.1:80', 'inbound passed exempt 169.254.7.127:5000 10.0.0.1:80'],
  ])('%s to %s, answered by %s: %s', (from, to, answers, said) => {
    expect(event(from, to, answers)).toBe(said);
  });

  it('passes where nothing is captured, or nothing inbound', () => {
    expect(event('10.0.0.1:5000', '10.9.9.9:80', undefined, { active: false })).toContain('outbound passed inactive');
    expect(event('10.9.9.9:5000', '10.0.0.1:80', undefined, { active: false })).toContain('inbound passed inactive');
    expect(event('10.9.9.9:5000', '10.0.0.1:80', undefined, { ingressMode: true })).toContain('inbound passed ingress');
  });

  it('is told of UDP only where it asks for names', () => {
    expect(event('10.0.0.1:5000', '10.9.9.9:53', '127.0.0.1:15053', { protocol: 17 })).toContain('outbound redirected dns-udp');
    expect(event('10.0.0.1:5000', '10.9.9.9:53', '127.0.0.1:15053')).toContain('outbound redirected dns-tcp');
    expect(event('10.0.0.1:5000', '10.9.9.9:53', undefined, { protocol: 17 })).toContain('outbound passed dns-off');
    expect(event('10.0.0.1:5000', '10.9.9.9:443', undefined, { protocol: 17 })).toBeUndefined();
  });
});
