/** What `nft -j` prints, of a listing and of the echo of a change. Pure. */
import { z } from 'zod';

const Rule = z.object({
  table: z.string(),
  chain: z.string(),
  comment: z.string().optional(),
  expr: z.array(z.record(z.string(), z.unknown())),
});
const Chain = z.object({
  table: z.string(),
  name: z.string(),
  type: z.string().optional(),
  hook: z.string().optional(),
  prio: z.number().optional(),
});
const Table = z.object({ name: z.string() });

export interface ListedRule {
  table: string;
  chain: string;
  /** our id of it, or whatever somebody else wrote there */
  comment: string | undefined;
  packets: number;
  /** the target's name, when it only jumps */
  jump: string | undefined;
  /** its expressions without the numbers that change */
  text: string;
}

export interface Listed {
  tables: string[];
  chains: z.infer<typeof Chain>[];
  rules: ListedRule[];
}

/** @throws SyntaxError, ZodError for what is no such print */
export function parseListed(text: string): Listed {
  const listed: Listed = { tables: [], chains: [], rules: [] };
  const { nftables } = z.object({ nftables: z.array(z.record(z.string(), z.unknown())) }).parse(JSON.parse(text));
  for (const entry of nftables) {
    // an echo wraps what it adds
    const item = (entry['add'] ?? entry['insert'] ?? entry) as Record<string, unknown>;
    if (item['table'] !== undefined) listed.tables.push(Table.parse(item['table']).name);
    if (item['chain'] !== undefined) listed.chains.push(Chain.parse(item['chain']));
    if (item['rule'] !== undefined) listed.rules.push(ruleOf(Rule.parse(item['rule'])));
  }
  return listed;
}

function ruleOf({ table, chain, comment, expr }: z.infer<typeof Rule>): ListedRule {
  const counter = expr.find((each) => 'counter' in each)?.['counter'] as { packets?: number } | null | undefined;
  const jump = (expr[0]?.['jump'] as { target?: string } | undefined)?.target;
  return {
    table,
    chain,
    comment,
    packets: counter?.packets ?? 0,
    jump: expr.length === 1 ? jump : undefined,
    text: JSON.stringify(expr.map((each) => ('counter' in each ? 'counter' : each))),
  };
}
