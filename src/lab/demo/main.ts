/**
 * `culvert lab demo`: builds the default lab, proves what the mesh promises, one line per proof, and takes the lab down again,
 * whatever happened.
 */
import { CulvertError, describe } from '../../base/errors.ts';
import { isUp, takeDown } from '../down.ts';
import { LabPaths } from '../paths.ts';
import { defaultTopology, parseTopology } from '../topology.ts';
import { hasControl } from '../control.ts';
import { readTunnel, tunnelName } from '../tunnels.ts';
import { bringUp, type UpOptions } from '../up.ts';
import { agentKilled, tunnelKilled } from './crash.ts';
import { byPodAddress, byService, bytesEcho, onlyTlsOnTheWire, serverFirst } from './encrypted.ts';
import { enrolled, hostDevices, mapsTell, noRules, nothingLeft, verifyAll } from './inspect.ts';
import { enrolledToNotEnrolled, labelOff, labelOnAgain, notEnrolledToEnrolled } from './plain.ts';
import { quickBench } from './quick-bench.ts';
import { Scene } from './scene.ts';

export interface Proof {
  title: string;
  /** @returns the measured detail @throws when it does not hold */
  prove: (scene: Scene) => Promise<string>;
}

/** In this order: a later one relies on what an earlier one left as it was. */
export const proofs: Proof[] = [
  { title: 'two nodes, pods of the labelled namespace are enrolled', prove: enrolled },
  { title: 'HTTP across nodes, by pod address', prove: (scene) => byPodAddress(scene, 'web-2', 'node2', 4) },
  { title: 'HTTP on one node, by pod address', prove: (scene) => byPodAddress(scene, 'web-1', 'node1', 4) },
  { title: 'HTTP by service', prove: (scene) => byService(scene, 4) },
  { title: 'the wire carries TLS and no plaintext', prove: onlyTlsOnTheWire },
  { title: 'server-first protocol', prove: (scene) => serverFirst(scene, 4) },
  { title: 'bytes echo with half-close', prove: (scene) => bytesEcho(scene, 4) },
  { title: 'IPv6: HTTP across nodes, by pod address', prove: (scene) => byPodAddress(scene, 'web-2', 'node2', 6) },
  { title: 'IPv6: HTTP on one node, by pod address', prove: (scene) => byPodAddress(scene, 'web-1', 'node1', 6) },
  { title: 'IPv6: HTTP by service', prove: (scene) => byService(scene, 6) },
  { title: 'IPv6: server-first protocol', prove: (scene) => serverFirst(scene, 6) },
  { title: 'IPv6: bytes echo with half-close', prove: (scene) => bytesEcho(scene, 6) },
  { title: 'enrolled to not enrolled, in plaintext', prove: enrolledToNotEnrolled },
  { title: 'not enrolled to enrolled, in plaintext', prove: notEnrolledToEnrolled },
  { title: 'no iptables, nftables or conntrack in enrolled pods', prove: noRules },
  { title: 'maps', prove: mapsTell },
  { title: 'verify --all', prove: verifyAll },
  { title: 'label off: new connections plain, the open one not cut', prove: labelOff },
  { title: 'label on again', prove: labelOnAgain },
  { title: 'agents killed: traffic goes on, all as before after restart', prove: agentKilled },
  { title: 'tunnel killed: refused at once, back when it is back', prove: tunnelKilled },
];

/** @returns true when every proof holds */
export async function runDemo(
  name: string,
  write: (text: string) => void,
  options: Pick<UpOptions, 'source' | 'tunnel'> = {},
): Promise<boolean> {
  const started = performance.now();
  const lab = new LabPaths(name);
  const interrupted = interruption();
  const devices = hostDevices();
  let failures = 0;
  let proven = '';
  let scene: Scene | undefined;
  const report = async (title: string, prove: () => Promise<string>): Promise<void> => {
    const begin = performance.now();
    try {
      write(`ok    ${title}: ${await prove()} [${seconds(begin)}]\n`);
    } catch (error) {
      failures += 1;
      write(`FAIL  ${title}: ${describe(error)} [${seconds(begin)}]\n`);
    }
  };
  const others = isUp(lab); // one that somebody works with: refused, and left as it is
  try {
    const topology = parseTopology(defaultTopology, 'default topology');
    await report('lab up', async () => {
      await bringUp(lab, defaultTopology, topology, options);
      return `nodes ${topology.nodes.join(', ')}; ${topology.pods.length} pods through bridge, host-local and culvert-cni${tunnels(lab)}`;
    });
    if (failures > 0) return false;
    const stage = await Scene.set(lab);
    scene = stage;
    for (const { title, prove } of proofs) {
      if (interrupted.aborted) throw new CulvertError('LAB', 'run demo: interrupted');
      await report(title, () => prove(stage));
    }
    await report('lab down, nothing left behind', () => nothingLeft(stage, devices));
    proven = seconds(started);
    if (!interrupted.aborted)
      await report('quick benchmark in a lab of its own, every path proven by counters', () => quickBench(interrupted));
    return failures === 0;
  } finally {
    scene?.close();
    if (!others) await takeDown(lab);
    write(
      `${failures === 0 ? 'every proof holds' : `${failures} ${failures === 1 ? 'proof does' : 'proofs do'} not hold`}; ${seconds(started)} in all${proven === '' ? '' : `, ${proven} without the benchmark`}\n`,
    );
  }
}

function tunnels(lab: LabPaths): string {
  const tunnel = readTunnel(lab);
  return `${tunnel === 'builtin' ? '' : `; the tunnels are ${tunnelName(tunnel)}`}${hasControl(lab) ? '; tunnels on xDS and CA of control' : ''}`;
}

/** The first Ctrl-C ends the demo behind the running proof, so that the lab goes down; the second kills as usual. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      controller.abort();
    });
  }
  return controller.signal;
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}
