/** A stream of bytes cut into lines, however it was split on the way. */
const NEWLINE = 0x0a;

export class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #limit: number;
  /** the beginning of a line whose end has not come */
  #parts: Buffer[] = [];
  #size = 0;

  /** @param limit bytes; a longer line is an error, not memory */
  constructor(onLine: (line: string) => void, limit: number) {
    this.#onLine = onLine;
    this.#limit = limit;
  }

  /** @throws when a line is over the limit, and whatever `onLine` throws */
  push(chunk: Buffer): void {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      this.#keep(chunk.subarray(from, end));
      from = end + 1;
      const line = Buffer.concat(this.#parts).toString('utf8');
      this.#parts = [];
      this.#size = 0;
      this.#onLine(line);
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
  }

  #keep(part: Buffer): void {
    this.#size += part.length;
    if (this.#size > this.#limit) throw new Error(`a line of more than ${this.#limit} bytes`);
    this.#parts.push(part);
  }
}
