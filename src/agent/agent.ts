/**
 * The node agent, put together. Sockets are bound before anything slow, so that tunnels and plugins that come early wait instead
 * of failing; they are answered once the kernel's state and the source's first snapshot are known.
 */
import { connect } from 'node:net';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { version } from '../base/version.ts';
import { openNetns, type OpenNetns } from '../enrol/netns.ts';
import { Reconciler } from '../enrol/reconciler.ts';
import { Steps } from '../enrol/steps.ts';
import type { RedirectDriver } from '../redirect/driver.ts';
import { createEbpfDriver } from '../redirect/ebpf/index.ts';
import { createFileSource } from '../sources/file/source.ts';
import type { MeshSnapshot, Source } from '../sources/source.ts';
import { cgroup2Mount } from '../sys/cgroup.ts';
import { bpfObject, native } from '../sys/native.ts';
import { occupiedNetns, processes } from '../sys/procfs.ts';
import { seqpacketListen } from '../sys/seqpacket.ts';
import { MAX_PACKET } from '../zds/messages.ts';
import { ZdsServer } from '../zds/server.ts';
import { ADMIN_PACKET, adminConnection } from './admin.ts';
import { podsOf, readinessOf, statusOf, type Known } from './answers.ts';
import { paths, type AdminRequest } from './api.ts';
import { Attachments } from './attachments.ts';
import { cniHandlers } from './cni-handlers.ts';
import { serveCni } from './cni-server.ts';
import type { AgentConfig } from './config.ts';
import { EnrolmentWriter } from './enrolment-file.ts';
import { instanceId } from './instance.ts';
import { ManualRedirect } from './redirect.ts';
import { TrustedTunnels } from './tunnels.ts';
import { verifyPods } from './verify.ts';

const TICK_MS = 2000;
/** How often sandboxes that ended without a word are forgotten. */
const PRUNE_MS = 60_000;

export interface Agent {
  /** Closes every door; whatever is enrolled goes on working by its pins. */
  close(): Promise<void>;
}

/** @throws CulvertError AGENT_REFUSED when another agent serves this run directory; whatever the driver's installation throws */
export async function startAgent(config: AgentConfig, log: Logger): Promise<Agent> {
  await refuseSecond(paths.cniSocket(config.runDir));
  for (const directory of [config.runDir, config.stateDir, dirname(config.zdsSocket)]) mkdirSync(directory, { recursive: true });
  const doors: { close(): unknown }[] = [];
  const closeAll = async (): Promise<void> => {
    for (const door of doors.splice(0).reverse()) await door.close();
  };
  try {
    await open(config, log, doors);
    return { close: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** @param doors everything opened, in order, also when it throws */
async function open(config: AgentConfig, log: Logger, doors: { close(): unknown }[]): Promise<void> {
  const zds = new ZdsServer({
    listen: (onConnection) => seqpacketListen(config.zdsSocket, MAX_PACKET, onConnection),
    log: log.child({ part: 'zds' }),
    onTunnel: (peer) => {
      tunnels.trust(peer);
      reconciler.tunnelConnected(peer.pid);
    },
    onReady: () => {
      reconciler.tunnelReady();
    },
    onGone: (_peer, left) => {
      if (left === 0) reconciler.tunnelsGone();
    },
  });
  doors.push(zds);

  const driver: RedirectDriver = createEbpfDriver({
    object: bpfObject(),
    pinDir: config.pinDir,
    cgroupRoot: config.cgroupRoot ?? cgroup2Mount(),
    nodeNetns: config.nodeNetns,
    instance: instanceId(config.stateDir),
    version,
    maxPods: config.maxPods,
    log: log.child({ part: 'redirect' }),
  });
  doors.push(driver);

  const source = createFileSource({ meshFile: config.meshFile, node: config.node });
  const tunnels = new TrustedTunnels({ driver, cgroupId: (path) => native.cgroupId(path), log: log.child({ part: 'tunnels' }) });
  const annotate: Source['annotate'] = (pod, key, value) => source.annotate(pod, key, value);
  const steps = new Steps({
    driver,
    zds,
    annotate,
    graceCapMs: config.graceCapMs,
    leaveDeadlineMs: config.leaveDeadlineMs,
    log: log.child({ part: 'enrol' }),
  });
  const netnsAt: OpenNetns = (path) => openNetns(path, (fd) => native.netnsCookie(fd));
  const reconciler = new Reconciler({
    node: config.node,
    driver,
    zds,
    steps,
    openNetns: netnsAt,
    excludedNamespaces: new Set(config.excludedNamespaces),
    dns: config.dnsCapture,
    log: log.child({ part: 'enrol' }),
  });
  // joins that wait for an ack end with their connection; what is under way is not turned into an undoing by that
  doors.push({
    close: async () => {
      const stopped = reconciler.close();
      zds.close();
      await stopped;
    },
  });

  const known: Known = { config, driver, reconciler, zds, source };
  let latest: MeshSnapshot | undefined;
  const answer = adminHandler(known, config, () => latest);
  doors.push(seqpacketListen(paths.adminSocket(config.runDir), ADMIN_PACKET, adminConnection(answer, log.child({ part: 'admin' }))));

  const enrolment = new EnrolmentWriter({ path: paths.enrolment(config.stateDir), log, ...config });
  const watch = source.watch(
    (snapshot) => {
      latest = snapshot;
      reconciler.apply(snapshot);
      void enrolment.update(snapshot);
    },
    (error) => {
      log.error(
        { error: describe(error) },
        source.synced() ? 'source has faults; the last good state stays in use' : 'source has faults; nothing is known yet',
      );
    },
  );
  doors.push(watch);
  const tick = setInterval(() => {
    reconciler.tick();
    tunnels.sweep();
  }, TICK_MS);
  doors.push({
    close: () => {
      clearInterval(tick);
    },
  });

  const cniLog = log.child({ part: 'cni' });
  const attachments = new Attachments(paths.attachments(config.runDir), cniLog);
  const pruning = setInterval(() => {
    attachments.prune();
  }, PRUNE_MS);
  doors.push({
    close: () => {
      clearInterval(pruning);
    },
  });
  const cni = cniHandlers({
    reconciler,
    driver,
    attachments,
    openNetns: netnsAt,
    readiness: () => readinessOf(known),
    occupied: occupiedNetns,
    log: cniLog,
  });
  doors.push(await serveCni(paths.cniSocket(config.runDir), cni, cniLog));
  log.info({ node: config.node, version, runDir: config.runDir, pinDir: config.pinDir, zds: config.zdsSocket }, 'agent serves');
}

function adminHandler(known: Known, config: AgentConfig, latest: () => MeshSnapshot | undefined) {
  const { driver, reconciler } = known;
  const manual = new ManualRedirect(driver, (fd) => native.netnsCookie(fd), processes);
  const knownIps = (): string[] => [...(latest()?.pods.values() ?? [])].flatMap((pod) => pod.ips);
  return async (request: AdminRequest, netnsFd: number | undefined): Promise<unknown> => {
    switch (request.op) {
      case 'status':
        return statusOf(known);
      case 'pods':
        return podsOf(known);
      case 'verify': {
        const chosen =
          request.pod === undefined ? reconciler.registry.all().filter((entry) => entry.pod.captured) : [named(reconciler, request.pod)];
        return verifyPods(chosen, { node: config.node, nodeNetns: config.nodeNetns, driver, native, knownIps });
      }
      case 'redirect-on':
        return manual.on(netnsFd, request.flags ?? {});
      case 'redirect-off':
        return manual.off(netnsFd);
      case 'redirect-show':
        return manual.show(netnsFd);
    }
  };
}

function named(reconciler: Reconciler, pod: string): NonNullable<ReturnType<Reconciler['registry']['named']>> {
  const [namespace = '', name = ''] = pod.split('/');
  const entry = reconciler.registry.named(namespace, name);
  if (entry === undefined) throw new CulvertError('POD_UNKNOWN', `verify ${pod}: this node has no such pod`);
  return entry;
}

/** Binding removes a stale socket; an agent that lives must not lose its own that way. */
async function refuseSecond(path: string): Promise<void> {
  const served = await new Promise<boolean>((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
  if (served) throw new CulvertError('AGENT_REFUSED', `start agent: another one serves ${path}`);
}
