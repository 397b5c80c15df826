/** What several drivers together do in a netns themselves. */
import { Netns } from '../sys/netns.ts';
import { forgetOpenStreams } from './open-streams.ts';

export interface NetnsAccess {
  /** our own descriptor of the same netns, for what outlives the caller's */
  keep: (netnsFd: number) => { readonly fd: number; close(): void };
  forgetOpenStreams: (netnsFd: number) => void;
}

export const inKernel: NetnsAccess = {
  keep: (netnsFd) => Netns.open(`/proc/self/fd/${netnsFd}`),
  forgetOpenStreams: (netnsFd) => forgetOpenStreams(Netns.adopt(netnsFd)),
};
