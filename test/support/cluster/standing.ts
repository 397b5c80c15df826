/** Started by a test as a process: a cluster that stands until its process is killed; tells its parent where it is. */
import { startCluster } from './cluster.ts';

const cluster = await startCluster();
const pids = [...Object.values(cluster.pids()), ...cluster.nodes.map(({ pid }) => pid)];
process.send!({ name: cluster.name, device: cluster.device, pids });
