/**
 * Whether this kernel and node can carry the datapath, asked of the kernel itself: helpers and mounts, never a version. What is only
 * useful becomes a constant of the programs; what is indispensable becomes a reason not to run.
 */
import { dirname } from 'node:path';
import { closeSync, openSync } from 'node:fs';
import { describe } from '../../base/errors.ts';
import { isBpffs } from '../../sys/bpffs.ts';
import { native } from '../../sys/native.ts';
import { CGROUP_PROGRAMS, ProgType, SK_LOOKUP_ATTACH } from './attach-points.ts';
import type { Constants } from './constants.ts';

export interface ProbeCheck {
  name: string;
  ok: boolean;
  /** indispensable; the others cost a feature that `detail` names */
  required: boolean;
  detail: string;
}

export interface EbpfProbe {
  usable: boolean;
  checks: ProbeCheck[];
  /** one sentence per failed check; empty when everything is there */
  reasons: string[];
  /** cookie of the node's netns; 0 when it could not be asked */
  nodeCookie: bigint;
  features: { retval: boolean; bindSetsockopt: boolean; sockopsCookie: boolean };
}

export interface ProbeOptions {
  pinDir: string;
  cgroupRoot: string;
  /** path of the node's netns */
  nodeNetns: string;
  /** whose connections to pods are probes; default "node": every process's of the node's netns */
  probeExemption?: 'node' | 'kubelet';
}

const CGROUP2_MAGIC = 0x63677270n;

/** enum bpf_func_id */
const Helper = {
  setsockopt: 49,
  sockHashUpdate: 70,
  skStorageGet: 107,
  netnsCookie: 122,
  ancestorCgroupId: 123,
  skAssign: 124,
  ringbufReserve: 131,
  setRetval: 187,
} as const;

export function probeEbpf(o: ProbeOptions): EbpfProbe {
  const checks: ProbeCheck[] = [];
  const check = (name: string, required: boolean, missing: string, test: () => boolean): boolean => {
    let ok = false;
    let detail = missing;
    try {
      ok = test();
    } catch (error) {
      detail = `${missing} (${describe(error)})`;
    }
    checks.push({ name, ok, required, detail: ok ? 'ok' : detail });
    return ok;
  };
  const addrHelper = (attach: number, helper: number): boolean => native.bpfProbeHelper(ProgType.cgroupSockAddr, attach, helper);
  const sockOpsHelper = (helper: number): boolean => native.bpfProbeHelper(ProgType.sockOps, CGROUP_PROGRAMS.sock_ops, helper);

  let nodeCookie = 0n;
  check('netns cookie', true, `cannot read the cookie of ${o.nodeNetns}: kernel 5.14 or later and access to it are needed`, () => {
    nodeCookie = cookieOf(o.nodeNetns);
    return nodeCookie !== 0n;
  });
  check('cgroup v2', true, `${o.cgroupRoot} is not a cgroup v2 directory`, () => native.statfsType(o.cgroupRoot) === CGROUP2_MAGIC);
  check('bpffs', true, `${o.pinDir} is not on a mounted bpffs`, () => isBpffs(existing(o.pinDir)));
  check('connect hooks', true, 'cgroup connect hooks cannot tell the netns', () =>
    addrHelper(CGROUP_PROGRAMS.connect4, Helper.netnsCookie),
  );
  check('connect marks', true, 'cgroup connect hooks cannot set a mark', () => addrHelper(CGROUP_PROGRAMS.connect4, Helper.setsockopt));
  check('sk_lookup', true, 'no sk_lookup programs', () => native.bpfProbeHelper(ProgType.skLookup, SK_LOOKUP_ATTACH, Helper.skAssign));
  check('listener map', true, 'sock_ops cannot put sockets into a map', () => sockOpsHelper(Helper.sockHashUpdate));
  check(
    'socket storage',
    true,
    'no storage per socket',
    () => addrHelper(CGROUP_PROGRAMS.connect4, Helper.skStorageGet) && sockOpsHelper(Helper.skStorageGet),
  );
  check('ring buffer', true, 'no BPF ring buffer', () => addrHelper(CGROUP_PROGRAMS.connect4, Helper.ringbufReserve));
  const retval = check('errno', false, 'refused connections show EPERM instead of ECONNREFUSED (bpf_set_retval, kernel 5.18)', () =>
    addrHelper(CGROUP_PROGRAMS.connect4, Helper.setRetval),
  );
  const bindSetsockopt = check(
    'bind fix',
    false,
    'an app cannot bind a port while a captured connection uses it (setsockopt in bind hooks, kernel 5.15)',
    () => addrHelper(CGROUP_PROGRAMS.bind4, Helper.setsockopt),
  );
  const sockopsCookie = check(
    'listen callback',
    false,
    'listeners are taken from the tunnel by fd, and probes are not exempt (netns cookie in sock_ops, kernel 5.15)',
    () => sockOpsHelper(Helper.netnsCookie),
  );
  if (o.probeExemption === 'kubelet') {
    check('kubelet', true, "kubelet's connections cannot be told by its cgroup (ancestor cgroup id in connect hooks, kernel 5.7)", () =>
      addrHelper(CGROUP_PROGRAMS.connect4, Helper.ancestorCgroupId),
    );
  }

  return {
    usable: checks.every((c) => c.ok || !c.required),
    checks,
    nodeCookie,
    reasons: checks.filter((c) => !c.ok).map((c) => c.detail),
    features: { retval, bindSetsockopt, sockopsCookie },
  };
}

/** False where no mount could make the datapath run: the hooks themselves are missing. */
export function kernelHasBpf(): boolean {
  try {
    return (
      native.bpfProbeHelper(ProgType.cgroupSockAddr, CGROUP_PROGRAMS.connect4, Helper.netnsCookie) &&
      native.bpfProbeHelper(ProgType.skLookup, SK_LOOKUP_ATTACH, Helper.skAssign)
    );
  } catch {
    return false; // no bpf(2) at all
  }
}

/** What is compiled into the programs (bpf/lib/config.h). */
export function constantsOf(probe: EbpfProbe, instance: bigint, kubeletOnly: boolean): Constants {
  return {
    instance,
    node_netns: probe.nodeCookie,
    tunnel_check: 1,
    have_retval: Number(probe.features.retval),
    have_bind_setsockopt: Number(probe.features.bindSetsockopt),
    have_sockops_cookie: Number(probe.features.sockopsCookie),
    kubelet_only: Number(kubeletOnly),
  };
}

function cookieOf(path: string): bigint {
  const fd = openSync(path, 'r');
  try {
    return native.netnsCookie(fd);
  } finally {
    closeSync(fd);
  }
}

/** The nearest ancestor that exists: the pin directory itself is made later. */
function existing(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    try {
      closeSync(openSync(at, 'r'));
      return at;
    } catch (error) {
      if (at === dirname(at)) throw error;
    }
  }
}
