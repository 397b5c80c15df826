/** How far a benchmark is: one line that is written over on a terminal, a line per round elsewhere. All of it on stderr. */

const WIDTH = 24;

export class Progress {
  readonly #write: (text: string) => void;
  readonly #tty: boolean;
  #steps = 1;
  #done = 0;
  #started = performance.now();
  #drawn = false;

  constructor(write: (text: string) => void, tty: boolean) {
    this.#write = write;
    this.#tty = tty;
  }

  /** @param steps in all, from here to the end */
  expect(steps: number): void {
    this.#steps = Math.max(1, steps);
    this.#done = 0;
    this.#started = performance.now();
  }

  step(what: string): void {
    if (this.#tty) this.#draw(what);
    this.#done += 1;
  }

  /** What stays to be read. */
  line(text: string): void {
    this.clear();
    this.#write(`${text}\n`);
  }

  /** A round's end; the bar says it on a terminal. */
  round(text: string): void {
    if (!this.#tty) this.#write(`${text}\n`);
  }

  clear(): void {
    if (this.#drawn) this.#write('\r\x1b[K');
    this.#drawn = false;
  }

  #draw(what: string): void {
    const share = Math.min(1, this.#done / this.#steps);
    const filled = Math.round(share * WIDTH);
    const spent = performance.now() - this.#started;
    const left = this.#done === 0 ? '' : `, ${duration((spent / this.#done) * (this.#steps - this.#done))} left`;
    this.#write(`\r\x1b[K[${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}] ${Math.floor(share * 100)} %${left}  ${what}`);
    this.#drawn = true;
  }
}

function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
