/** `lab status`: which labs exist and what of them lives. */
import { processesOf, podCgroup } from './cgroups.ts';
import { controlRecord, hasControl } from './control.ts';
import { daemonRecord, type Daemon } from './daemons.ts';
import { isUp, leftovers, nodesOf } from './down.ts';
import type { LabPaths } from './paths.ts';
import { isAlive, type ProcessRecord } from './processes.ts';
import { readState } from './state.ts';
import { readTopology } from './topology.ts';
import { readTunnel, tunnelName } from './tunnels.ts';
import { dirname } from 'node:path';

export interface LabStatus {
  name: string;
  up: boolean;
  dir: string;
  /** null: the tunnels listen to the mesh file */
  control: { pid: number; alive: boolean } | null;
  /** "builtin", or the path of another */
  tunnel: string;
  /** ztunnel2: a second tunnel that was started beside the first */
  nodes: {
    node: string;
    agent: { pid: number; alive: boolean };
    ztunnel: { pid: number; alive: boolean };
    ztunnel2?: { pid: number; alive: boolean };
  }[];
  pods: { node: string; namespace: string; name: string; uid: string; ips: string[]; netns: string; running: boolean }[];
  services: { namespace: string; name: string; vips: string[] }[];
  /** of a lab that is not up: what "lab down" will remove */
  leftovers: string[];
}

export function statusOf(lab: LabPaths): LabStatus {
  const up = isUp(lab);
  const state = readState(lab);
  return {
    name: lab.name,
    up,
    dir: lab.dir,
    control: hasControl(lab) ? processState(controlRecord(lab)) : null,
    tunnel: tunnelName(readTunnel(lab)),
    nodes: nodesOf(lab).map((node) => ({
      node,
      agent: daemon(lab, node, 'agent'),
      ztunnel: daemon(lab, node, 'ztunnel'),
      ...(daemonRecord(lab, node, 'ztunnel-2') === undefined ? {} : { ztunnel2: daemon(lab, node, 'ztunnel-2') }),
    })),
    pods: podsOf(lab, state),
    services: Object.entries(state.services).map(([key, { vips }]) => ({ ...split(key), vips })),
    leftovers: up ? [] : leftovers(lab),
  };
}

function podsOf(lab: LabPaths, state: ReturnType<typeof readState>): LabStatus['pods'] {
  const nodes = nodesByPod(lab);
  return Object.entries(state.pods).map(([key, pod]) => {
    const node = nodes.get(key) ?? '';
    const running = node !== '' && processesOf(dirname(podCgroup(lab, node, pod.uid, 'any'))).length > 0;
    return { node, ...split(key), uid: pod.uid, ips: pod.ips, netns: pod.netns, running };
  });
}

/** A broken mesh.yaml is the agents' to report; status still tells what lives. */
function nodesByPod(lab: LabPaths): Map<string, string> {
  try {
    return new Map(readTopology(lab.mesh).topology.pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod.node]));
  } catch {
    return new Map();
  }
}

function daemon(lab: LabPaths, node: string, which: Daemon): { pid: number; alive: boolean } {
  return processState(daemonRecord(lab, node, which));
}

function processState(record: ProcessRecord | undefined): { pid: number; alive: boolean } {
  return { pid: record?.pid ?? 0, alive: isAlive(record) };
}

function split(key: string): { namespace: string; name: string } {
  const [namespace = '', name = ''] = key.split('/');
  return { namespace, name };
}
