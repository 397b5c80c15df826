/**
 * The node agent, put together. Sockets are bound before anything slow, so that tunnels and plugins that come early wait instead
 * of failing; they are answered once the kernel's state and the source's first snapshot are known. The plugin is installed last, when
 * pods can be served; that it is ready is said from then on.
 */
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { version } from '../base/version.ts';
import { openNetns, type OpenNetns } from '../enrol/netns.ts';
import { Reconciler } from '../enrol/reconciler.ts';
import { Steps } from '../enrol/steps.ts';
import type { RedirectDriver } from '../redirect/driver.ts';
import type { MeshSnapshot, Source } from '../sources/source.ts';
import { openCgroups } from '../sys/cgroup.ts';
import { openDoor, routes } from '../sys/doors.ts';
import { native } from '../sys/native.ts';
import { occupiedNetns } from '../sys/procfs.ts';
import { seqpacketListen } from '../sys/seqpacket.ts';
import { MAX_PACKET } from '../zds/messages.ts';
import { ZdsServer } from '../zds/server.ts';
import { ADMIN_PACKET, adminConnection } from './admin.ts';
import { adminRequests } from './admin-requests.ts';
import { readinessOf, type Known } from './answers.ts';
import { paths } from './api.ts';
import { Attachments } from './attachments.ts';
import { cniHandlers } from './cni-handlers.ts';
import { serveCni } from './cni-server.ts';
import { proveHost } from './checks/host.ts';
import type { AgentConfig } from './config.ts';
import { DatapathWarnings } from './datapath-warnings.ts';
import { discoveryOf } from './discovery.ts';
import { openDrivers } from './open-drivers.ts';
import { EnrolmentWriter } from './enrolment-file.ts';
import { installationOf } from './installation.ts';
import { Gauges } from './metrics/gauges.ts';
import { countChanges, measuredApi, measuredSteps, measuredZds } from './metrics/measured.ts';
import { AgentMetrics } from './metrics/metrics.ts';
import { openApi, openSource } from './open-source.ts';
import { podAddresses } from './pod-addresses.ts';
import { healthDoor, Readiness } from './readiness.ts';
import { annotateIfPossible } from './shutdown.ts';
import { stopAgent } from './stop.ts';
import { TrustedTunnels } from './tunnels.ts';

const TICK_MS = 2000;
/** How often sandboxes that ended without a word are forgotten, and pods are tried whose node may masquerade by now. */
const SLOW_TICK_MS = 60_000;

export interface Agent {
  /** Resolves when something happened that only an operator can mend. */
  readonly failure: Promise<unknown>;
  /** Closes every door; whatever is enrolled goes on working by its pins. */
  close(): Promise<void>;
  /** Told to stop: closes, and takes everything off the node when nobody comes after it. @returns false when something was left over */
  stop(): Promise<boolean>;
}

/** @throws CulvertError AGENT_REFUSED when another agent serves this run directory; whatever the driver's installation throws */
export async function startAgent(config: AgentConfig, log: Logger): Promise<Agent> {
  const doors: Doors = [];
  const closeAll = async (): Promise<void> => {
    for (const door of doors.splice(0).reverse()) await door.close();
  };
  try {
    const readiness = new Readiness();
    if (config.healthPort !== 0) doors.push(await openDoor(healthDoor(readiness), config.healthPort));
    await refuseSecond(paths.cniSocket(config.runDir));
    for (const directory of [config.runDir, config.stateDir, dirname(config.zdsSocket)]) mkdirSync(directory, { recursive: true });
    const opened = await open(config, log, readiness, doors);
    return { failure: opened.failure, close: closeAll, stop: () => stopAgent({ config, log, ...opened, close: closeAll }) };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** In the order in which they were opened; closed in the reverse one. */
type Doors = { close(): unknown }[];

/** @param doors everything opened, also when it throws */
async function open(config: AgentConfig, log: Logger, readiness: Readiness, doors: Doors) {
  const metrics = new AgentMetrics(version);
  readiness.starting('looking at the host');
  const cgroupRoot = await proveHost(config);
  const plainApi = await openApi(config);
  const api = plainApi && measuredApi(plainApi, metrics);
  if (api !== undefined) doors.push(api);
  const source = await openSource(config, api, log);
  // Bound from here on; nothing is waited for until there is somebody whom tunnels can be told of.
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

  readiness.starting('installing the datapath');
  const driver: RedirectDriver = await openDrivers({
    config,
    cgroupRoot,
    tunnels: () => zds.connections().map(({ peer }) => peer.pid),
    log: log.child({ part: 'redirect' }),
  });
  doors.push(driver);

  const tunnels = new TrustedTunnels({
    driver,
    cgroups: openCgroups(config.procRoot),
    cgroupId: (path) => native.cgroupId(path),
    proc: config.procRoot,
    log: log.child({ part: 'tunnels' }),
  });
  const given = { up: false };
  const annotate: Source['annotate'] = (...what) => source.annotate(...what);
  const annotateLoosely = annotateIfPossible(annotate, log);
  const steps = new Steps({
    driver,
    zds: measuredZds(zds, metrics),
    annotate: (...what) => (given.up ? annotateLoosely(...what) : annotate(...what)),
    graceCapMs: config.graceCapMs,
    leaveDeadlineMs: config.leaveDeadlineMs,
    log: log.child({ part: 'enrol' }),
  });
  const netnsAt: OpenNetns = (path) => openNetns(path, (fd) => native.netnsCookie(fd));
  const cniLog = log.child({ part: 'cni' });
  const attachments = new Attachments(paths.attachments(config.runDir), cniLog);
  const reconciler: Reconciler = new Reconciler({
    node: config.node,
    driver,
    zds,
    steps: measuredSteps(steps, {
      metrics,
      since: (uid) => reconciler.registry.get(uid)?.pod.since.getTime(),
      leaving: (cookie) => gauges.leaving(cookie),
      left: (cookie) => gauges.left(cookie),
    }),
    openNetns: netnsAt,
    discover: discoveryOf({ config, attachments, openNetns: netnsAt, log: log.child({ part: 'discovery' }) }),
    onTrouble: (pod, error) => source.event?.(pod, { type: 'Warning', reason: 'EnrolmentFailed', message: describe(error) }),
    excludedNamespaces: new Set(config.excludedNamespaces),
    enablementSelectors: config.enablementSelectors,
    dns: config.dnsCapture,
    annotationsKept: source.keepsAnnotations === true,
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

  const installation = installationOf(config, log);
  if (installation !== undefined) {
    doors.push(installation);
    readiness.needs(() => (installation.ready ? undefined : `the CNI plugin is not installed: ${installation.state.reason}`));
  }
  readiness.needs(() => (reconciler.started ? undefined : 'the source has not said yet which pods there are'));
  const datapathWarnings = new DatapathWarnings({
    driver,
    registry: reconciler.registry,
    event: (pod, event) => source.event?.(pod, event),
    log: log.child({ part: 'redirect' }),
  });
  doors.push(datapathWarnings);
  const known: Known = { config, driver, reconciler, zds, source, readiness, datapathWarnings, installation };
  const gauges = new Gauges(metrics.registry, { ...known, perPod: config.podMetrics });
  if (config.metricsPort !== 0) {
    const type = metrics.registry.contentType;
    const door = routes({ '/metrics': async () => ({ status: 200, type, body: await gauges.scrape() }) });
    doors.push(await openDoor(door, config.metricsPort));
  }

  let latest: MeshSnapshot | undefined;
  const answer = adminRequests(known, config, api, () => latest);
  doors.push(seqpacketListen(paths.adminSocket(config.runDir), ADMIN_PACKET, adminConnection(answer, log.child({ part: 'admin' }))));

  const enrolment = new EnrolmentWriter({ path: paths.enrolment(config.stateDir), log, ...config });
  const changed = countChanges(config.node, metrics);
  const first = Promise.withResolvers<undefined>();
  const watch = source.watch(
    (snapshot) => {
      latest = snapshot;
      metrics.lastSnapshot.setToCurrentTime();
      changed(snapshot);
      reconciler.apply(snapshot);
      void enrolment.update(snapshot);
      first.resolve(undefined);
    },
    (error) => {
      metrics.sourceErrors.inc();
      log.error(
        { error: describe(error) },
        source.synced() ? 'source has faults; the last good state stays in use' : 'source has faults; nothing is known yet',
      );
    },
  );
  doors.push(watch, { close: () => source.close?.() });
  doors.push(
    every(TICK_MS, () => {
      reconciler.tick();
      tunnels.sweep();
      driver.refreshNode();
      datapathWarnings.tick();
    }),
    every(SLOW_TICK_MS, () => {
      attachments.prune();
      void driver.recheckPods();
    }),
  );
  const cni = cniHandlers({
    reconciler,
    driver,
    attachments,
    openNetns: netnsAt,
    readiness: () => readinessOf(known),
    addressesIn: podAddresses,
    occupied: () => occupiedNetns(config.procRoot),
    log: cniLog,
  });
  const observe = (verb: string, status: number, seconds: number): void => {
    metrics.pluginRequests.inc({ response_code: String(status) });
    if (verb !== '') metrics.cniDuration.observe({ verb }, seconds);
  };
  doors.push(await serveCni(paths.cniSocket(config.runDir), cni, cniLog, observe));
  readiness.started();
  log.info({ node: config.node, version, runDir: config.runDir, pinDir: config.pinDir, zds: config.zdsSocket }, 'agent serves');
  const failure = Promise.withResolvers<unknown>();
  if (installation !== undefined) first.promise.then(() => installation.start()).catch(failure.resolve);
  return { api, reconciler, installation, given, failure: failure.promise };
}

function every(ms: number, act: () => void): { close(): void } {
  const timer = setInterval(act, ms);
  return {
    close: () => {
      clearInterval(timer);
    },
  };
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
