/** What the verbs need of their process, so that tests run them without one. */
export interface PluginContext {
  env: Record<string, string | undefined>;
  stdin: () => string;
  /** @throws whatever the system says */
  readFile: (path: string) => string;
  exists: (path: string) => boolean;
  /** one line for the runtime's log */
  note: (line: string) => void;
  deadlines: Deadlines;
}

/** Milliseconds that each verb may wait for the agent. */
export interface Deadlines {
  add: number;
  del: number;
  check: number;
  gc: number;
  status: number;
}

/**
 * The runtime waits for 10 s in all, so what the process took to start is taken off. The agent's own deadlines are shorter (8.5 s
 * for ADD, 3 s for DEL), which leaves it time to say no. STATUS is asked every few seconds.
 * @param usedMs since the process started
 */
export function deadlines(usedMs: number): Deadlines {
  const all = Math.max(1000, Math.floor(9900 - usedMs));
  return { add: all, del: 4000, check: 5000, gc: all, status: 2000 };
}
