import { defineConfig } from 'vitest/config';

/** One project per ring (see docs/development.md). Forks, because a network namespace belongs to a thread and tests change theirs. */
const ring = (name: string, serial: boolean, seconds: number) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    pool: 'forks' as const,
    fileParallelism: !serial,
    testTimeout: seconds * 1000,
    hookTimeout: seconds * 1000,
  },
});

export default defineConfig({
  test: {
    projects: [
      ring('unit', false, 10),
      ring('bpf', true, 60),
      ring('netns', true, 60),
      ring('cluster', true, 60),
      ring('ztunnel', true, 120),
    ],
  },
});
