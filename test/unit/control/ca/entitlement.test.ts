import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Caller } from '../../../../src/control/authenticator.ts';
import { entitle } from '../../../../src/control/ca/entitlement.ts';
import { SetInventory, type KnownPod } from '../../../support/ca/inventory.ts';

const policy = { trustDomain: 'cluster.local', trustedNodeAccounts: new Set(['culvert-system/ztunnel']) };
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';
const caller: Caller = { namespace: 'culvert-system', serviceAccount: 'ztunnel', pod: { name: 'zt', uid: 'u1' }, node: 'a' };
const tunnel: KnownPod = { namespace: 'culvert-system', name: 'zt', uid: 'u1', node: 'a', serviceAccount: 'ztunnel' };
const web: KnownPod = { namespace: 'shop', name: 'web-1', uid: 'u2', node: 'a', serviceAccount: 'web' };
const { node: _node, ...withoutNode } = caller;
const { pod: _pod, ...withoutPod } = caller;
const { pod: _none, ...withoutBoth } = withoutNode;

const inventory = (pods: KnownPod[], accounts: string[] = ['shop/web']): SetInventory => {
  const made = new SetInventory();
  made.set({ pods, accounts });
  return made;
};

describe('what a caller is entitled to', () => {
  it.each<[string, Caller, KnownPod[]]>([
    ['a tunnel, for a pod on its node', caller, [tunnel, web]],
    ['a tunnel whose token says nothing of its node', withoutNode, [tunnel, web]],
    ['a caller whose node is vouched for', withoutPod, [web]],
  ])('%s: the identity asked for', (_name, who, pods) => {
    expect(entitle(who, WEB, policy, inventory(pods))).toEqual({ verdict: 'granted', identity: WEB });
  });

  it('anybody: the own identity', () => {
    const own = entitle({ namespace: 'shop', serviceAccount: 'web' }, '', policy, inventory([]));
    expect(own).toEqual({ verdict: 'granted', identity: WEB });
  });

  it.each<[string, Caller, string, KnownPod[], string, boolean]>([
    ['another account', { ...caller, serviceAccount: 'default' }, WEB, [tunnel, web], 'may not ask for other identities', false],
    ['the same account of another namespace', { ...caller, namespace: 'shop' }, WEB, [tunnel, web], 'may not ask', false],
    ['another trust domain', caller, 'spiffe://td/ns/shop/sa/web', [tunnel, web], 'its trust domain is td, ours is cluster.local', false],
    ['no identity', caller, 'web', [tunnel, web], 'it is no identity', false],
    ['no pod, no node', withoutBoth, WEB, [tunnel, web], 'bound to no pod', false],
    ['a pod that is not known', caller, WEB, [web], 'pod culvert-system/zt of the caller is not known', true],
    ['a pod made anew', caller, WEB, [{ ...tunnel, uid: 'u9' }, web], 'has UID u9, the token is bound to u1', true],
    ['a pod that runs as another', caller, WEB, [{ ...tunnel, serviceAccount: 'x' }, web], 'runs as culvert-system/x', false],
    ['a pod without a node', withoutNode, WEB, [{ ...tunnel, node: '' }, web], 'is on no node yet', true],
    [
      'a pod elsewhere than the token says',
      caller,
      WEB,
      [{ ...tunnel, node: 'b' }, web],
      'is on node b, the token is bound to node a',
      true,
    ],
    ['a pod of another node', caller, WEB, [tunnel, { ...web, node: 'b' }], 'no pod of account shop/web is on node a', true],
    ['a pod of another namespace', caller, WEB, [tunnel, { ...web, namespace: 'x' }], 'no pod of account shop/web is on node a', true],
  ])('%s: refused', (_name, who, requested, pods, why, later) => {
    const decision = entitle(who, requested, policy, inventory(pods));
    expect(decision).toMatchObject({ verdict: 'refused', later });
    expect('reason' in decision && decision.reason).toContain(why);
  });

  it('an account that nobody has told of is to be asked for', () => {
    const decision = entitle(caller, WEB, policy, inventory([tunnel, web], []));
    expect(decision).toEqual({ verdict: 'account unknown', identity: WEB, namespace: 'shop', serviceAccount: 'web' });
  });

  it('never another identity than one of the own node, whatever is asked', () => {
    const text = fc.oneof(
      fc.string(),
      fc.tuple(fc.constantFrom('shop', 'x'), fc.constantFrom('web', 'db')).map(([ns, sa]) => `spiffe://cluster.local/ns/${ns}/sa/${sa}`),
      fc.string().map((end) => WEB + end),
    );
    const pods = [tunnel, web, { ...web, name: 'db-1', node: 'b', serviceAccount: 'db' }];
    fc.assert(
      fc.property(text, (requested) => {
        const decision = entitle(caller, requested, policy, inventory(pods, ['shop/web', 'shop/db', 'x/web']));
        if (decision.verdict === 'granted' && requested !== '') expect(decision.identity).toBe(WEB);
      }),
    );
  });
});
