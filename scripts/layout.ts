/**
 * Generates src/maps/layout.gen.ts from the BTF of the BPF object: what C and TypeScript share is written once, in bpf/abi/.
 *
 *   node scripts/layout.ts [--check] [object]     object: build/bpf/culvert.bpf.o
 *
 * --check writes nothing and exits 1 when the committed file is not what the object says. Needs bpftool, which reads the BTF.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

interface Member {
  name: string;
  type_id: number;
  bits_offset: number;
}
interface BtfType {
  id: number;
  kind: string;
  name: string;
  size?: number;
  type_id?: number;
  nr_elems?: number;
  linkage?: string;
  encoding?: string;
  members?: Member[];
  values?: { name: string; val: string }[];
  vars?: { type_id: number; size: number }[];
}
interface Field {
  offset: number;
  kind: string;
  size?: number;
}

const OUT = fileURLToPath(new URL('../src/maps/layout.gen.ts', import.meta.url));
/** uapi linux/bpf.h, enum bpf_map_type, of the types in use */
const MAP_TYPES: Record<number, string> = {
  1: 'hash',
  2: 'array',
  5: 'percpu_hash',
  9: 'lru_hash',
  18: 'sockhash',
  24: 'sk_storage',
  27: 'ringbuf',
};
/** the vocabulary of bpf/lib/config.h */
const ENUMS = ['wire', 'age', 'size', 'reason', 'pod_state', 'pod_flag', 'event_class', 'istio_probes', 'abi'];

class Btf {
  readonly types = new Map<number, BtfType>();

  constructor(object: string) {
    const text = execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', object], { encoding: 'utf8', maxBuffer: 1 << 26 });
    // bpftool prints enumerators sign-extended to 64 bits, more than a JSON number holds
    const json = JSON.parse(text.replace(/"val":(-?\d+)/g, '"val":"$1"')) as { types: BtfType[] };
    for (const type of json.types) this.types.set(type.id, type);
  }

  get(id: number | undefined): BtfType {
    const type = this.types.get(id ?? 0);
    if (type === undefined) throw new Error(`read BTF: no type ${id}`);
    return type;
  }

  named(kind: string, name: string): BtfType {
    for (const type of this.types.values()) if (type.kind === kind && type.name === name) return type;
    throw new Error(`read BTF: no ${kind} ${name}`);
  }

  /** Without typedefs and qualifiers. */
  bare(id: number | undefined): BtfType {
    let type = this.get(id);
    while (['TYPEDEF', 'CONST', 'VOLATILE'].includes(type.kind)) type = this.get(type.type_id);
    return type;
  }

  size(id: number | undefined): number {
    const type = this.bare(id);
    return type.kind === 'ARRAY' ? (type.nr_elems ?? 0) * this.size(type.type_id) : (type.size ?? 0);
  }

  /** What a value of this type is in TypeScript; a struct's name for a struct. */
  kind(id: number | undefined): string {
    const outer = this.get(id);
    if (outer.kind === 'TYPEDEF' && outer.name === '__be16') return 'port';
    const type = this.bare(id);
    if (type.kind === 'STRUCT') return type.name === 'addr' ? 'address' : type.name;
    if (type.kind === 'ARRAY' && this.bare(type.type_id).name === 'char') return 'text';
    if (type.kind === 'INT') return `${type.encoding === 'SIGNED' ? 'i' : 'u'}${(type.size ?? 0) * 8}`;
    throw new Error(`read BTF: a ${type.kind} ${type.name} has no codec`);
  }

  fields(struct: BtfType): Record<string, Field> {
    const fields: Record<string, Field> = {};
    for (const member of struct.members ?? []) {
      if (member.name === 'reserved') continue; // written as zero, not interpreted
      const kind = this.kind(member.type_id);
      fields[member.name] = { offset: member.bits_offset / 8, kind, ...(kind === 'text' ? { size: this.size(member.type_id) } : {}) };
    }
    return fields;
  }

  /** libbpf's way to say a number: pointer to an array of that many ints. */
  number(id: number | undefined): number {
    return this.get(this.get(id).type_id).nr_elems ?? 0;
  }
}

function mapsOf(btf: Btf): { rows: string[]; structs: Set<string> } {
  const structs = new Set(['event']);
  const rows = (btf.named('DATASEC', '.maps').vars ?? []).map(({ type_id }) => {
    const variable = btf.get(type_id);
    const members = new Map((btf.get(variable.type_id).members ?? []).map((m) => [m.name, m.type_id]));
    const part = (name: string): string => {
      const pointer = members.get(name);
      if (pointer === undefined) return `${name}: null, ${name}Size: 0`;
      const target = btf.get(pointer).type_id;
      const kind = btf.kind(target);
      if (btf.bare(target).kind === 'STRUCT' && kind !== 'address') structs.add(kind);
      return `${name}: '${kind}', ${name}Size: ${btf.size(target)}`;
    };
    const number = btf.number(members.get('type'));
    const type = MAP_TYPES[number];
    if (type === undefined) throw new Error(`read BTF: map ${variable.name} is of unknown type ${number}`);
    const maxEntries = members.has('max_entries') ? btf.number(members.get('max_entries')) : 0;
    return `  ${variable.name}: { type: '${type}', typeNumber: ${number}, ${part('key')}, ${part('value')}, maxEntries: ${maxEntries} },`;
  });
  return { rows, structs };
}

function render(btf: Btf): string {
  const maps = mapsOf(btf);
  const out = [
    '// Generated by scripts/layout.ts from the BTF of the BPF object; bpf/abi/ is the source. Do not edit.',
    '',
    '/** Keys, values and events: byte offsets and kinds of their fields. Reserved bytes are left out. */',
    'export const structs = {',
  ];
  for (const name of [...maps.structs].sort()) {
    const struct = btf.named('STRUCT', name);
    out.push(`  ${name}: {`, `    size: ${struct.size ?? 0},`, '    fields: {');
    for (const [field, { offset, kind, size }] of Object.entries(btf.fields(struct))) {
      out.push(`      ${field}: { offset: ${offset}, kind: '${kind}'${size === undefined ? '' : `, size: ${size}`} },`);
    }
    out.push('    },', '  },');
  }
  out.push('} as const;', '', 'export const enums = {');
  for (const name of ENUMS) {
    out.push(`  ${name}: {`);
    for (const { name: key, val } of btf.named('ENUM', name).values ?? []) out.push(`    ${key}: ${BigInt.asUintN(32, BigInt(val))},`);
    out.push('  },');
  }
  out.push(
    '} as const;',
    '',
    '/** By C name; maxEntries is the default that the loader overrides. */',
    'export const maps = {',
    ...maps.rows,
    '} as const;',
  );
  const rodata = (btf.named('DATASEC', '.rodata').vars ?? []).map(({ type_id, size }) => ({ name: btf.get(type_id).name, size }));
  out.push('', '/** Constants that the loader sets between open and load: size in bytes. */', 'export const rodata = {');
  for (const { name, size } of rodata.filter((r) => r.name !== 'vocabulary')) out.push(`  ${name}: ${size},`);
  // sorted: their order in the object is the order in which its parts were linked
  const programs = [...btf.types.values()]
    .filter((t) => t.kind === 'FUNC' && t.linkage === 'global')
    .map((t) => `'${t.name}'`)
    .sort();
  out.push('} as const;', '', `export const programs = [\n  ${programs.join(',\n  ')},\n] as const;`, '');
  return out.join('\n');
}

const args = process.argv.slice(2);
const check = args.includes('--check');
const object = args.find((a) => !a.startsWith('--')) ?? fileURLToPath(new URL('../build/bpf/culvert.bpf.o', import.meta.url));
const text = render(new Btf(object));
if (!check) writeFileSync(OUT, text);
else if (text !== readFileSync(OUT, 'utf8')) {
  process.stderr.write('check layout: src/maps/layout.gen.ts is not what the BPF object says; run node scripts/layout.ts and commit it\n');
  process.exitCode = 1;
}
