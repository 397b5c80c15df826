/** HTTP/2 as HBONE peers speak it; both ends of ours and Istio's use these numbers. */
import type { Settings } from 'node:http2';

export const STREAM_WINDOW = 4 * 1024 * 1024;
export const CONNECTION_WINDOW = 16 * 1024 * 1024;
/**
 * Send buffer of a connection that carries HBONE. Node's HTTP/2 reads nothing while one of its writes waits for the socket; when
 * both ends wait so, with data both ways, neither ever reads again. Written can be at most what the peer's window lets out,
 * and control frames: a buffer that holds all of it never lets a write wait.
 */
export const HBONE_SEND_BUFFER = 2 * CONNECTION_WINDOW;
const FRAME_SIZE = 1024 * 1024;

export const clientSettings: Settings = { initialWindowSize: STREAM_WINDOW, maxFrameSize: FRAME_SIZE, enablePush: false };

export const serverSettings: Settings = { initialWindowSize: STREAM_WINDOW, maxFrameSize: FRAME_SIZE, maxConcurrentStreams: 200 };

/**
 * Limits that Node means for strangers; our peers are authenticated and multiplex whole applications. In megabytes: more than 200
 * full stream windows, else streams are refused while others stall. Applications' resets arrive as stream resets, in bursts.
 */
export const sessionLimits = {
  maxSessionMemory: 1024,
  maxOutstandingPings: 10,
  maxSessionRejectedStreams: 10_000,
  streamResetBurst: 10_000,
  streamResetRate: 1_000,
};
