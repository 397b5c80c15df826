import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/**
 * One project per ring (see docs/development.md). Forks, because a network namespace belongs to a thread and tests change theirs.
 * @param files how many run at once; vitest's own choice leaves a processor idle
 */
const ring = (name: string, files: number, seconds: number) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    pool: 'forks' as const,
    setupFiles: 'test/support/patience.ts',
    maxWorkers: files,
    testTimeout: seconds * 1000,
    hookTimeout: seconds * 1000,
  },
});

export default defineConfig({
  test: {
    projects: [
      ring('unit', availableParallelism(), 30),
      ring('bpf', 1, 60),
      ring('netns', 1, 120),
      // A cluster waits half of its time: for kubelet, for probes, for pods to end. Clusters do not meet.
      ring('cluster', 2, 180),
      ring('ztunnel', 1, 120),
    ],
  },
});
