/**
 * Configuration of a daemon: the YAML file, then CULVERT_* variables, then flags, each overriding the one before; one zod object
 * schema per role says what there is. One spelling rule: `runDir` in the file, CULVERT_RUN_DIR, `--run-dir`. A key that nobody
 * knows is an error that names the nearest one: a misspelt setting must not be silently without effect.
 */
import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import type { z } from 'zod';
import { CulvertError, describe, isSystem } from './errors.ts';

export const CONFIG_FILE = '/etc/culvert/config.yaml';

/** Variables of ours that are no configuration: where the build's parts lie; and everything that tests set for themselves. */
const NO_CONFIG = /^CULVERT_(TEST_.*|ADDON|BPF_OBJECT)$/;

export interface ConfigSources {
  /** flags as given, "--run-dir", "/x", "--dns=false"; `--config PATH` names the file, which must exist then */
  args: readonly string[];
  env: NodeJS.ProcessEnv;
  /** read when `--config` is not given and it exists; default CONFIG_FILE */
  defaultFile?: string;
  /** keys of other roles, which share file and environment with this one */
  otherKeys?: readonly string[];
}

interface Setting {
  value: unknown;
  /** "flag --run-dir", for messages */
  origin: string;
}

/** @throws CONFIG_INVALID naming every fault with its origin and value */
export function loadConfig<S extends z.ZodObject>(schema: S, sources: ConfigSources): z.infer<S> {
  const faults: string[] = [];
  const flags = readFlags(schema, sources.args, faults);
  const file = flags.get('config')?.value as string | undefined;
  flags.delete('config');
  const settings = new Map([...readFile(schema, file, sources, faults), ...readEnv(schema, sources, faults), ...flags]);
  const result = schema.safeParse(Object.fromEntries([...settings].map(([key, { value }]) => [key, value])));
  if (!result.success) {
    for (const issue of result.error.issues) {
      const key = String(issue.path[0] ?? '');
      const setting = settings.get(key);
      const found =
        setting === undefined
          ? `; set it by --${kebab(key)}, CULVERT_${upper(key)} or in the file`
          : `, found ${JSON.stringify(setting.value)} in ${setting.origin}`;
      faults.push(`${issue.path.join('.')}: ${setting === undefined ? 'missing' : issue.message}${found}`);
    }
  }
  if (!result.success || faults.length > 0) throw new CulvertError('CONFIG_INVALID', `read configuration: ${faults.join('; ')}`);
  return result.data;
}

/** One line per setting, for `--help`: the flag and the schema's own description. */
export function configHelp(schema: z.ZodObject): string {
  const rows = Object.entries(schema.shape).map(
    ([key, field]) => [`  --${kebab(key)}`, `${(field as z.ZodType).description ?? ''}${defaultOf(field as z.ZodType)}`] as const,
  );
  const width = Math.max(...rows.map(([flag]) => flag.length)) + 2;
  return [['  --config', `YAML file with the same keys (default ${CONFIG_FILE})`] as const, ...rows]
    .map(([flag, text]) => `${flag.padEnd(width)}${text}`)
    .join('\n');
}

/** What an unset key is, as the help says it. */
function defaultOf(field: z.ZodType): string {
  const unset = field.safeParse(undefined);
  if (!unset.success) return ' (required)';
  if (unset.data === undefined) return '';
  const value: unknown = unset.data;
  return ` (default ${Array.isArray(value) ? value.join(',') || 'none' : String(value)})`;
}

function readFlags(schema: z.ZodObject, args: readonly string[], faults: string[]): Map<string, Setting> {
  const flags = new Map<string, Setting>();
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    const match = /^--([^=]+)(?:=(.*))?$/s.exec(arg);
    if (match === null) {
      faults.push(`"${arg}" is no flag`);
      continue;
    }
    const key = camel(match[1] ?? '');
    const origin = `flag --${match[1] ?? ''}`;
    if (key !== 'config' && !Object.hasOwn(schema.shape, key)) {
      faults.push(
        unknown(
          origin,
          `--${match[1] ?? ''}`,
          ['config', ...Object.keys(schema.shape)].map((known) => `--${kebab(known)}`),
        ),
      );
      if (match[2] === undefined && args[i + 1]?.startsWith('--') === false) i++; // its value is no flag either
      continue;
    }
    const next = args[i + 1];
    let text = match[2];
    if (text === undefined && next !== undefined && !next.startsWith('--')) {
      text = next;
      i++;
    }
    // a flag without a value says yes, where yes is an answer
    if (text === undefined && !accepts(schema, key, true)) faults.push(`${origin}: needs a value`);
    else flags.set(key, { value: key === 'config' ? text : text === undefined ? true : fromText(schema, key, text), origin });
  }
  return flags;
}

function readEnv(schema: z.ZodObject, sources: ConfigSources, faults: string[]): Map<string, Setting> {
  const byName = new Map(Object.keys(schema.shape).map((key) => [`CULVERT_${upper(key)}`, key]));
  const others = new Set((sources.otherKeys ?? []).map((key) => `CULVERT_${upper(key)}`));
  const settings = new Map<string, Setting>();
  for (const [name, text] of Object.entries(sources.env)) {
    if (!name.startsWith('CULVERT_') || text === undefined || NO_CONFIG.test(name)) continue;
    const key = byName.get(name);
    if (key !== undefined) settings.set(key, { value: fromText(schema, key, text), origin: `variable ${name}` });
    else if (!others.has(name)) faults.push(unknown(`variable ${name}`, name, [...byName.keys()]));
  }
  return settings;
}

function readFile(schema: z.ZodObject, named: string | undefined, sources: ConfigSources, faults: string[]): Map<string, Setting> {
  const path = named ?? sources.defaultFile ?? CONFIG_FILE;
  const settings = new Map<string, Setting>();
  let content: unknown;
  try {
    content = parseYaml(readFileSync(path, 'utf8'));
  } catch (error) {
    if (named === undefined && isSystem(error, 'ENOENT')) return settings;
    faults.push(`${path}: ${describe(error).split('\n')[0] ?? ''}`);
    return settings;
  }
  if (content === null || content === undefined) return settings;
  if (typeof content !== 'object' || Array.isArray(content)) {
    faults.push(`${path}: must hold keys and values`);
    return settings;
  }
  for (const [key, value] of Object.entries(content)) {
    if (Object.hasOwn(schema.shape, key)) settings.set(key, { value, origin: path });
    else if (sources.otherKeys?.includes(key) !== true) faults.push(unknown(path, key, Object.keys(schema.shape)));
  }
  return settings;
}

/** Text as the type that the key has: as it stands, as a YAML scalar ("8", "true"), as a list with commas. */
function fromText(schema: z.ZodObject, key: string, text: string): unknown {
  if (accepts(schema, key, text)) return text;
  try {
    const scalar: unknown = parseYaml(text);
    if (accepts(schema, key, scalar)) return scalar;
  } catch {
    // no YAML: reported as the text it is
  }
  const list = text === '' ? [] : text.split(',').map((item) => item.trim());
  return accepts(schema, key, list) ? list : text;
}

function accepts(schema: z.ZodObject, key: string, value: unknown): boolean {
  return Object.hasOwn(schema.shape, key) && (schema.shape[key] as z.ZodType).safeParse(value).success;
}

function unknown(origin: string, key: string, known: string[]): string {
  const nearest = known.reduce<[string, number]>(
    (best, candidate) => {
      const d = distance(key, candidate);
      return d < best[1] ? [candidate, d] : best;
    },
    ['', Infinity],
  );
  return `${origin}: "${key}" is unknown; the nearest is "${nearest[0]}"`;
}

/** Levenshtein. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
const upper = (key: string): string => kebab(key).replaceAll('-', '_').toUpperCase();
const camel = (flag: string): string => flag.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
