/** Whoever can put a redirect into a netns and take it out: our drivers without an agent, and istio-cni's commands. */
import { join } from 'node:path';
import { createLogger } from '../base/log.ts';
import { labCgroup, makeCgroup } from '../lab/cgroups.ts';
import type { LabPaths } from '../lab/paths.ts';
import { createEbpfDriver, uninstallEbpf } from '../redirect/ebpf/index.ts';
import type { RedirectDriver } from '../redirect/driver.ts';
import { createNetfilterDriver } from '../redirect/netfilter/index.ts';
import { bpfObject } from '../sys/native.ts';
import { Netns } from '../sys/netns.ts';
import { applyAsIstioCni, removeAsIstioCni } from './istio-cni.ts';
import type { Scenario } from './report.ts';

export interface Programmer {
  scenario: Scenario;
  /** behind the metric's name: "program-istio-cni" */
  suffix: '' | '-istio-cni';
  /** @returns milliseconds */
  program(netnsPath: string): Promise<number>;
  /** @returns milliseconds */
  remove(netnsPath: string): Promise<number>;
  close(): Promise<void>;
}

/** A node's netns for them alone: what a driver keeps there for its own pods, it takes away with the last of them. */
export function programmingNode(lab: LabPaths): string {
  return lab.netns('programming-node');
}

/** Not opened yet: what cannot be, says so as a void cell and not as the end of the run. */
export interface ProgrammerKind extends Pick<Programmer, 'scenario' | 'suffix'> {
  open(lab: LabPaths): Promise<Programmer>;
}

export function programmersOf(scenarios: readonly Scenario[]): ProgrammerKind[] {
  return scenarios.flatMap((scenario): ProgrammerKind[] => {
    if (scenario === 'ebpf') return [{ scenario, suffix: '', open: (lab) => Promise.resolve().then(() => ebpf(lab)) }];
    if (scenario !== 'iptables' && scenario !== 'nftables') return [];
    const ours: ProgrammerKind = { scenario, suffix: '', open: (lab) => netfilter(lab, scenario) };
    return scenario === 'iptables' ? [ours, { scenario, suffix: '-istio-cni', open: () => Promise.resolve(istioCni) }] : [ours];
  });
}

const istioCni: Programmer = {
  scenario: 'iptables',
  suffix: '-istio-cni',
  program: (netns) => applyAsIstioCni(netns, { ipv6: true, dns: true }),
  remove: (netns) => removeAsIstioCni(netns, { ipv6: true }),
  close: () => Promise.resolve(),
};

/** With pins and a cgroup of its own: the datapath that is being measured elsewhere in the lab is not touched. */
function ebpf(lab: LabPaths): Programmer {
  const log = quiet();
  const pinDir = join(lab.bpffs, 'programming');
  const instance = BigInt(process.pid);
  const driver = createEbpfDriver({
    ...{ object: bpfObject(), pinDir, cgroupRoot: makeCgroup(join(labCgroup(lab), 'programming')), nodeNetns: programmingNode(lab) },
    ...{ instance, maxPods: 64, log },
  });
  return ofDriver('ebpf', driver, async () => {
    await uninstallEbpf({ pinDir, instance, procRoot: '/proc', deadlineMs: 0, force: true, log });
  });
}

async function netfilter(lab: LabPaths, kind: 'iptables' | 'nftables'): Promise<Programmer> {
  const stateDir = join(lab.dir, 'programming', kind);
  const driver = await createNetfilterDriver({ kind, nodeNetns: programmingNode(lab), stateDir, log: quiet() });
  return ofDriver(kind, driver, () => Promise.resolve());
}

/** The contract's verbs as the agent calls them, with nobody to wait for: no tunnel, no connections. */
function ofDriver(scenario: Scenario, driver: RedirectDriver, uninstall: () => Promise<void>): Programmer {
  return {
    scenario,
    suffix: '',
    async program(path) {
      using netns = Netns.open(path);
      const { cookie } = netns;
      const name = `programming-${cookie}`;
      const before = performance.now();
      await driver.prepare({
        ...{ uid: name, namespace: 'bench', name, netnsFd: netns.fd, netnsCookie: cookie, netnsPath: path },
        flags: { dns: true, ingressMode: false, markOnly: false },
      });
      await driver.activate(cookie);
      return performance.now() - before;
    },
    async remove(path) {
      using netns = Netns.open(path);
      const before = performance.now();
      await driver.drain(netns.cookie);
      await driver.remove(netns.cookie, netns.fd, 0);
      return performance.now() - before;
    },
    async close() {
      driver.close();
      await uninstall();
    },
  };
}

function quiet(): ReturnType<typeof createLogger> {
  return createLogger('bench', 'error');
}
