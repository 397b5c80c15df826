/** One document of the mesh: text to checked value, or to faults that name file, path and value. */
import { parseDocument } from 'yaml';
import type { z } from 'zod';

export type Document<T> = { value: T } | { faults: string[] };
/** by file name */
export type ReadDocuments = Map<string, { text: string; document: Document<unknown> }>;

/** @param known kept by the caller: agents write their annotations often, and YAML of some hundred pods takes 100 ms to read */
export function readDocument<S extends z.ZodType>(
  source: { file: string; text: string },
  schema: S,
  known: ReadDocuments,
): Document<z.infer<S>> {
  const before = known.get(source.file);
  if (before?.text === source.text) return before.document as Document<z.infer<S>>;
  const document = parse(source, schema);
  known.set(source.file, { text: source.text, document });
  return document;
}

function parse<S extends z.ZodType>({ file, text }: { file: string; text: string }, schema: S): Document<z.infer<S>> {
  let value: unknown;
  try {
    value = file.endsWith('.json') ? JSON.parse(text) : fromYaml(text);
  } catch (error) {
    return { faults: [`${file}: ${(error as Error).message}`] };
  }
  const result = schema.safeParse(value ?? {});
  if (result.success) return { value: result.data };
  const faults = result.error.issues.map((issue) => {
    const at = pathText(issue.path);
    const found = valueAt(value, issue.path);
    return `${file}: ${at === '' ? '' : `${at}: `}${issue.message}${found === undefined ? '' : `, found ${found}`}`;
  });
  return { faults };
}

/** @throws Error with line and column of the first mistake */
function fromYaml(text: string): unknown {
  const document = parseDocument(text, { prettyErrors: true });
  const [error] = document.errors;
  if (error !== undefined) throw new Error(error.message.split('\n')[0]?.replace(/:$/, ''));
  return document.toJS({ maxAliasCount: 100 }); // an alias bomb is refused, not expanded
}

function pathText(path: PropertyKey[]): string {
  return path.map((part, index) => (typeof part === 'number' ? `[${String(part)}]` : `${index === 0 ? '' : '.'}${String(part)}`)).join('');
}

function valueAt(value: unknown, path: PropertyKey[]): string | undefined {
  let at = value;
  for (const part of path) {
    if (typeof at !== 'object' || at === null) return undefined;
    at = (at as Record<PropertyKey, unknown>)[part];
  }
  if (at === undefined) return undefined;
  const text = JSON.stringify(at);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
