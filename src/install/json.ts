/**
 * JSON that belongs to somebody else, read and written again without loss: key order and unknown keys stay, and a number keeps its
 * spelling ("1.0", 20 digits), because the plugin behind it may be stricter than we are.
 */
type Reviver = (key: string, value: unknown, context: { source?: string }) => unknown;

/** Newer than TypeScript's libraries; in Node since 21. */
const raw = JSON as unknown as { parse(text: string, reviver: Reviver): unknown; rawJSON(text: string): unknown };

export type JsonObject = Record<string, unknown>;

/** @throws Error with what is wrong, in words for people */
export function readJson(text: string): unknown {
  if (text.trim() === '') throw new Error('it is empty');
  try {
    return raw.parse(text, (_, value, { source }) =>
      typeof value === 'number' && source !== undefined && source !== String(value) ? raw.rawJSON(source) : value,
    );
  } catch (error) {
    throw new Error(`it is not JSON: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

export function writeJson(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** By what is written, keys in order. */
export function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** A value as it may stand in a message. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) return 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
