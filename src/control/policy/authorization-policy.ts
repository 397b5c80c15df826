/**
 * AuthorizationPolicy to Authorization, as Istio translates it for ztunnel. What Istio's webhook would refuse can arrive here, where
 * no webhook stands: it is then read towards less access, the same on every replica and after every restart, so no earlier version
 * of the policy plays a part. An ALLOW rule that cannot be read allows nothing; a DENY rule denies whatever its readable clauses match.
 */
import { create } from '@bufbuild/protobuf';
import { Action, AuthorizationSchema, RuleSchema, Scope, type Authorization, type Rule } from '../../proto/security_pb.js';
import type { PolicyObject } from '../cluster.ts';
import { isAbsent, Reading } from './reading.ts';
import { ACCEPTED, refusal, type Verdict } from './report.ts';
import { readRule, ruleFields, type RuleReading } from './rule.ts';
import { readSelector, type Selector } from './selector.ts';

export interface Translated {
  /** undefined: nothing that tunnels could enforce */
  authorization: Authorization | undefined;
  selector: Selector | undefined;
  verdict: Verdict;
}

export interface Mesh {
  rootNamespace: string;
  trustDomain: string;
}

const DRY_RUN_ANNOTATION = 'istio.io/dry-run';
const FIELDS = ['selector', 'targetRef', 'targetRefs', 'action', 'provider', 'rules'];
const WAYPOINT = 'HTTP attributes and trust domains need a waypoint';
const ACTIONS = new Map([
  ['ALLOW', Action.ALLOW],
  ['DENY', Action.DENY],
]);

export function translateAuthorizationPolicy(policy: PolicyObject, mesh: Mesh): Translated {
  const reading = new Reading();
  const { value: head, clean } = reading.clean(() => readHead(reading, policy));
  const elsewhere = notForTunnels(head);
  if (elsewhere !== undefined) {
    const faults = [elsewhere, ...reading.faults];
    return {
      authorization: undefined,
      selector: undefined,
      verdict: refusal('UnsupportedValue', { faults, effect: 'nothing of it', sent: false }),
    };
  }
  const fields = ruleFields({ namespace: policy.namespace, trustDomain: mesh.trustDomain });
  const read = reading.list(head.rules, 'rules').map((rule, index) => readRule(reading, rule, { path: `rules[${index}]`, fields }));
  const action = ACTIONS.get(head.action) ?? Action.ALLOW;
  const rulesLost = !isAbsent(head.rules) && !Array.isArray(head.rules);
  const rules = action === Action.DENY ? denied(read, rulesLost) : clean ? allowed(read) : [];
  if (action === Action.DENY && read.length === 0 && !rulesLost)
    reading.fault('rules', 'must not be empty: a DENY without rules denies nothing');
  const { namespace, name } = policy;
  return {
    authorization: create(AuthorizationSchema, {
      name,
      namespace,
      scope: scopeOf(policy, head.selector, mesh),
      action,
      rules,
      dryRun: head.dryRun,
    }),
    selector: head.selector,
    verdict: judge(reading, read, { action, clean }),
  };
}

interface Head {
  /** as it stands there, or as meant by its absence */
  action: string;
  selector: Selector | undefined;
  targeted: boolean;
  rules: unknown;
  dryRun: boolean;
}

function readHead(reading: Reading, policy: PolicyObject): Head {
  const spec = reading.object(policy.spec ?? {}, '', FIELDS) ?? {};
  const { action, targetRef, targetRefs, provider } = spec;
  const text = isAbsent(action) ? 'ALLOW' : typeof action === 'string' ? action : '';
  if (!ACTIONS.has(text) && text !== 'AUDIT' && text !== 'CUSTOM') reading.fault('action', 'must be ALLOW, DENY, AUDIT or CUSTOM', action);
  if (!isAbsent(provider) && text !== 'CUSTOM') reading.fault('provider', 'goes with action CUSTOM only', provider);
  const selector = readSelector(reading, spec['selector']);
  const refs = reading.list(targetRefs, 'targetRefs').length > 0;
  const ref = !isAbsent(targetRef) && reading.map(targetRef, 'targetRef') !== undefined;
  if ((refs || ref) && !isAbsent(spec['selector'])) reading.fault('selector', 'does not go with targetRefs', spec['selector']);
  return { action: text, selector, targeted: refs || ref, rules: spec['rules'], dryRun: readDryRun(reading, policy) };
}

/** An annotation that cannot be read leaves the policy enforced. */
function readDryRun(reading: Reading, { annotations }: PolicyObject): boolean {
  const text = annotations[DRY_RUN_ANNOTATION] ?? '';
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (!/^(0|f|F|FALSE|false|False|)$/.test(text)) reading.fault(`annotation ${DRY_RUN_ANNOTATION}`, 'must be true or false', text);
  return false;
}

function notForTunnels({ targeted, action }: Head): string | undefined {
  if (targeted) return 'targetRefs: is for a waypoint or gateway, and tunnels are neither';
  if (action === 'AUDIT' || action === 'CUSTOM') return `action: tunnels do not know ${action}`;
  return undefined;
}

function scopeOf(policy: PolicyObject, selector: Selector | undefined, mesh: Mesh): Scope {
  if (selector !== undefined) return Scope.WORKLOAD_SELECTOR;
  return policy.namespace === mesh.rootNamespace ? Scope.GLOBAL : Scope.NAMESPACE;
}

/** A rule stands only when every part of it can be judged at L4. */
function allowed(read: readonly RuleReading[]): Rule[] {
  return read.filter(({ clean, unsupported }) => clean && unsupported.length === 0).map(ruleOf);
}

function denied(read: readonly RuleReading[], rulesLost: boolean): Rule[] {
  return rulesLost ? [create(RuleSchema)] : read.map(ruleOf); // a rule without clauses matches everything
}

function ruleOf({ clauses }: RuleReading): Rule {
  return create(RuleSchema, { clauses: [...clauses] });
}

function judge(reading: Reading, read: readonly RuleReading[], { action, clean }: { action: Action; clean: boolean }): Verdict {
  const unsupported = read.flatMap((rule, index) =>
    rule.unsupported.length === 0 ? [] : [`${rule.unsupported.join(', ')}: ${WAYPOINT}, ${without(rule, action)} (rules[${index}])`],
  );
  const faults = [...reading.faults, ...unsupported];
  if (faults.length === 0) return ACCEPTED;
  const invalid = reading.faults.length > 0;
  const effect = action === Action.DENY ? deniedNow(read, invalid) : allowedNow(clean);
  return refusal(invalid ? 'Invalid' : 'UnsupportedValue', { faults, effect, sent: true });
}

function without({ inert }: RuleReading, action: Action): string {
  if (action === Action.ALLOW) return 'the rule allows nothing';
  return inert ? 'the rule denies nothing' : 'the rule denies without regard to them';
}

function deniedNow(read: readonly RuleReading[], invalid: boolean): string {
  if (invalid) return 'a DENY, with faults in a rule it denies all that the other parts of the rule match';
  return read.every(({ inert }) => inert) ? 'nothing of it' : 'the rest of it';
}

function allowedNow(clean: boolean): string {
  return clean ? 'an ALLOW of the other rules only' : 'an ALLOW without rules, which allows nothing';
}
