/**
 * Policy specs are read field by field, because a spec with one bad value still says something: every fault is named with its path
 * and the value found, and reading goes on. A field that this version does not know is a fault: what it restricts must not be lost.
 */

type Fields = Readonly<Record<string, unknown>>;

/** Kept per policy; more are counted only. */
const MAX_KEPT = 50;
const MAX_VALUE = 80;

export class Reading {
  readonly #faults: string[] = [];
  #count = 0;

  get faults(): readonly string[] {
    const unnamed = this.#count - this.#faults.length;
    return unnamed === 0 ? this.#faults : [...this.#faults, `${unnamed} more faults`];
  }

  fault(path: string, problem: string, found?: unknown): void {
    this.#count++;
    if (this.#faults.length < MAX_KEPT)
      this.#faults.push(`${path === '' ? 'spec' : path}: ${problem}${found === undefined ? '' : `, found ${shown(found)}`}`);
  }

  /** Whether `read` met no fault. */
  clean<T>(read: () => T): { value: T; clean: boolean } {
    const before = this.#count;
    const value = read();
    return { value, clean: this.#count === before };
  }

  /** @returns undefined, and a fault, for what is no object */
  object(value: unknown, path: string, known: readonly string[]): Fields | undefined {
    const fields = this.map(value, path);
    for (const name of Object.keys(fields ?? {}))
      if (!known.includes(name)) this.fault(under(path, name), 'is not known to this version', fields?.[name]);
    return fields;
  }

  /** An object whose field names are the reader's. */
  map(value: unknown, path: string): Fields | undefined {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
    this.fault(path, 'must be an object', value);
    return undefined;
  }

  /** Absent: empty. */
  list(value: unknown, path: string): readonly unknown[] {
    if (isAbsent(value)) return [];
    if (Array.isArray(value)) return value as unknown[];
    this.fault(path, 'must be a list', value);
    return [];
  }

  /** A list of texts, each understood by `parse`, which returns undefined for what it cannot read. */
  values<T>(value: unknown, path: string, { parse, problem }: Values<T>): T[] {
    const result: T[] = [];
    for (const [index, each] of this.list(value, path).entries()) {
      const parsed = typeof each === 'string' ? parse(each) : undefined;
      if (parsed === undefined) this.fault(`${path}[${index}]`, problem, each);
      else result.push(parsed);
    }
    return result;
  }
}

export interface Values<T> {
  parse: (text: string) => T | undefined;
  /** "must be …" */
  problem: string;
}

/** JSON's null says as much as a field that is not there. */
export function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

export function under(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

function shown(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value);
  } catch {
    return 'a value too deep to show'; // nesting that JSON.parse took and JSON.stringify does not
  }
  return text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE - 1)}…` : text;
}
