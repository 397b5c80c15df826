/** Waiting for something to become so, asked again at every change and not in a loop. */
export class Changes {
  readonly #checks = new Set<() => void>();

  notify(): void {
    for (const check of [...this.#checks]) check();
  }

  /** Resolves with the first defined answer; undefined when the time is over. Rejects when asking throws. */
  async until<T>(ask: () => T | undefined, ms: number): Promise<T | undefined> {
    const now = ask();
    if (now !== undefined) return now;
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        this.#checks.delete(check);
        settle();
      };
      const check = (): void => {
        try {
          const answer = ask();
          if (answer !== undefined) end(() => resolve(answer));
        } catch (error) {
          end(() => reject(error instanceof Error ? error : new Error(String(error))));
        }
      };
      const timer = setTimeout(() => end(() => resolve(undefined)), Math.max(0, ms));
      this.#checks.add(check);
    });
  }
}
