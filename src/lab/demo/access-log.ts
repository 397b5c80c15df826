/** Lines of a tunnel's access log that came since a mark. */
import { readFileSync, statSync } from 'node:fs';
import { until } from '../until.ts';

/** One connection, field names as ztunnel writes them. */
export type AccessLine = Record<string, string | number | undefined>;

export class AccessLogReader {
  readonly #path: string;
  #offset = 0;

  constructor(path: string) {
    this.#path = path;
    this.mark();
  }

  /** What is there now is of no interest any more. */
  mark(): void {
    this.#offset = statSync(this.#path).size;
  }

  /** Waits for a line since the mark. A connection's line comes when it ends. @throws CulvertError CHECK_FAILED */
  async find(what: string, matches: (line: AccessLine) => boolean): Promise<AccessLine> {
    return until(`an access log line in ${this.#path} of ${what}`, 3000, () => this.lines().find(matches));
  }

  lines(): AccessLine[] {
    return readFileSync(this.#path)
      .subarray(this.#offset)
      .toString('utf8')
      .split('\n')
      .flatMap((text) => {
        try {
          const line = JSON.parse(text) as AccessLine;
          return line['direction'] === undefined ? [] : [line];
        } catch {
          return []; // not a whole line yet
        }
      });
  }
}
