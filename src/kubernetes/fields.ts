/**
 * Reads the JSON of an API object field by field. What is absent has its default, what is of another type is a fault with its path;
 * nothing throws before every fault is known.
 */
import { CulvertError } from '../base/errors.ts';
import type { KubeObject } from './api.ts';
import { isRecord } from './json.ts';

/** in one message */
const MAX_FAULTS = 20;

export class Fields {
  readonly #value: Record<string, unknown>;
  readonly #path: string;
  readonly #faults: string[];

  private constructor(value: Record<string, unknown>, path: string, faults: string[]) {
    this.#value = value;
    this.#path = path;
    this.#faults = faults;
  }

  /** @throws SOURCE_INVALID that names the object and all its faults */
  static read<T>(kind: string, object: KubeObject, build: (fields: Fields) => T): T {
    const faults: string[] = [];
    const built = build(new Fields(object, '', faults));
    if (faults.length === 0) return built;
    const { namespace, name } = object.metadata;
    const who = typeof namespace === 'string' ? `${namespace}/${name}` : name;
    const named = faults.length > MAX_FAULTS ? [...faults.slice(0, MAX_FAULTS), `and ${faults.length - MAX_FAULTS} more`] : faults;
    throw new CulvertError('SOURCE_INVALID', `read ${kind} ${who}: ${named.join('; ')}`);
  }

  has(name: string): boolean {
    return this.#get(name) !== undefined;
  }

  raw(name: string): unknown {
    return this.#get(name);
  }

  /** The object below; an empty one when it is absent. */
  at(name: string): Fields {
    const value = this.#typed(name, 'object', isRecord) ?? {};
    return new Fields(value, `${this.#path}${name}.`, this.#faults);
  }

  text(name: string, fallback = ''): string {
    return this.#typed(name, 'string', isText) ?? fallback;
  }

  /** For what must be there. */
  required(name: string): string {
    const value = this.#typed(name, 'string', isText);
    if (value === undefined && !this.has(name)) this.fault(name, 'is missing');
    return value ?? '';
  }

  flag(name: string, fallback = false): boolean {
    return this.#typed(name, 'boolean', (value) => typeof value === 'boolean') ?? fallback;
  }

  number(name: string): number | undefined {
    return this.#typed(name, 'number', (value) => typeof value === 'number');
  }

  /** 1 to 65535. The API server does not look at the ports of EndpointSlices, and no tunnel takes what is none. */
  port(name: string): number | undefined {
    const value = this.number(name);
    if (value === undefined || (Number.isInteger(value) && value >= 1 && value <= 65535)) return value;
    this.fault(name, 'is no port');
    return undefined;
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const value = this.#get(name);
    if (value === undefined) return fallback;
    const known = values.find((candidate) => candidate === value);
    if (known === undefined) this.fault(name, `is none of ${values.join(', ')}`);
    return known ?? fallback;
  }

  texts(name: string): string[] {
    return this.#typed(name, 'list of strings', (value): value is string[] => Array.isArray(value) && value.every(isText)) ?? [];
  }

  /** labels, annotations, selectors */
  map(name: string): Record<string, string> {
    const isMap = (value: unknown): value is Record<string, string> => isRecord(value) && Object.values(value).every(isText);
    return this.#typed(name, 'map of strings', isMap) ?? {};
  }

  list(name: string): Fields[] {
    const isList = (value: unknown): value is Record<string, unknown>[] => Array.isArray(value) && value.every(isRecord);
    const items = this.#typed(name, 'list of objects', isList) ?? [];
    return items.map((item, index) => new Fields(item, `${this.#path}${name}[${index}].`, this.#faults));
  }

  fault(name: string, what: string): void {
    this.#faults.push(`${this.#path}${name} ${what}`);
  }

  /** null is how some clients write that a field is absent */
  #get(name: string): unknown {
    return Object.hasOwn(this.#value, name) ? (this.#value[name] ?? undefined) : undefined;
  }

  #typed<T>(name: string, type: string, is: (value: unknown) => value is T): T | undefined {
    const value = this.#get(name);
    if (value === undefined) return undefined;
    if (is(value)) return value;
    this.fault(name, `is no ${type}`);
    return undefined;
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
