/** What the handlers of one pod share. */
import type { Logger } from '../base/log.ts';
import type { StateStore } from '../state/store.ts';
import type { Workload } from '../state/workload.ts';
import type { WorkloadInfo } from '../zds/messages.ts';
import type { AccessLog } from './access-log.ts';
import type { Certificates } from './certificates.ts';
import type { ConnectionTable } from './connections.ts';
import type { Know } from './demand.ts';
import type { RoundRobin } from './route.ts';
import type { PodSockets } from './sockets.ts';

/** Of the whole tunnel. */
export interface TunnelEnv {
  state: StateStore;
  certificates: Certificates;
  access: AccessLog;
  log: Logger;
  turns: RoundRobin;
  know: Know;
}

export interface Pod extends TunnelEnv {
  uid: string;
  info: WorkloadInfo;
  sockets: PodSockets;
  connections: ConnectionTable;
  /** The pod as the source knows it, waited for a moment. @throws POD_UNKNOWN */
  workload(): Promise<Workload>;
}
