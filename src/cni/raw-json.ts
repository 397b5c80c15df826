/**
 * JSON kept as it was written. prevResult belongs to the plugins before us: parsed and printed again, a number beyond 2^53, `1.0` or
 * a doubled key would come out as something else, so the text itself is passed on.
 */

export interface Span {
  start: number;
  /** behind the last character */
  end: number;
}

/**
 * Where the value of a member stands in an object's text; the last one when the key is there twice, as JSON.parse has it.
 * @param text valid JSON (JSON.parse accepted it), an object
 */
export function memberSpan(text: string, key: string): Span | undefined {
  let found: Span | undefined;
  let at = skipSpace(text, text.indexOf('{') + 1);
  while (text[at] === '"') {
    const keyEnd = stringEnd(text, at);
    const name = JSON.parse(text.slice(at, keyEnd)) as string;
    const start = skipSpace(text, skipSpace(text, keyEnd) + 1); // behind the colon
    const end = valueEnd(text, start);
    if (name === key) found = { start, end };
    at = skipSpace(text, end);
    if (text[at] === ',') at = skipSpace(text, at + 1);
  }
  return found;
}

/** The object's text with this member set; nothing else changes, and nothing at all when it has that value. */
export function withMember(text: string, key: string, value: string): string {
  const span = memberSpan(text, key);
  const printed = JSON.stringify(value);
  if (span !== undefined) {
    if (JSON.parse(text.slice(span.start, span.end)) === value) return text;
    return text.slice(0, span.start) + printed + text.slice(span.end);
  }
  const inside = text.indexOf('{') + 1;
  const empty = text[skipSpace(text, inside)] === '}';
  return `${text.slice(0, inside)}${JSON.stringify(key)}:${printed}${empty ? '' : ','}${text.slice(inside)}`;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at++;
  return at;
}

/** @param from at the opening quote */
function stringEnd(text: string, from: number): number {
  for (let at = from + 1; ; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') return at + 1;
  }
}

function valueEnd(text: string, from: number): number {
  if (text[from] === '"') return stringEnd(text, from);
  if (text[from] !== '{' && text[from] !== '[') {
    let at = from;
    while (at < text.length && !',}] \n\r\t'.includes(text[at] ?? '')) at++;
    return at;
  }
  let depth = 0;
  for (let at = from; ;) {
    const character = text[at];
    if (character === '"') at = stringEnd(text, at);
    else {
      at++;
      if (character === '{' || character === '[') depth++;
      else if ((character === '}' || character === ']') && --depth === 0) return at;
    }
  }
}
