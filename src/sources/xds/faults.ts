/** What is wrong with resources, each fault by resource, field, value and reason: the text goes to the control plane and to people. */

/** A NACK must stay well below what a control plane receives at once (4 MiB in grpc-go). */
const MAX_TEXT = 512 * 1024;
const MAX_VALUE = 80;

export class Faults {
  readonly list: string[] = [];
  readonly #resource: string;

  /** @param resource its name, for the messages */
  constructor(resource: string) {
    this.#resource = resource;
  }

  get none(): boolean {
    return this.list.length === 0;
  }

  add(field: string, value: unknown, reason: string): void {
    this.list.push(`${this.#resource}: ${field}${value === undefined ? '' : ` ${shown(value)}`}: ${reason}`);
  }
}

/** All of them on one line. */
export function faultText(faults: readonly string[]): string {
  let text = '';
  for (const [index, fault] of faults.entries()) {
    if (text.length + fault.length > MAX_TEXT) return `${text}; and ${faults.length - index} more`;
    text += index === 0 ? fault : `; ${fault}`;
  }
  return text;
}

function shown(value: unknown): string {
  if (value instanceof Uint8Array)
    return cut(`0x${Buffer.from(value.buffer, value.byteOffset, Math.min(value.length, MAX_VALUE)).toString('hex')}`);
  return cut(typeof value === 'string' ? JSON.stringify(value) : String(value));
}

function cut(text: string): string {
  return text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE - 1)}…` : text;
}
