/** Numbers as people read them. Always English notation: a report is read far from where it was made. */

/** Four significant digits, three below 100: what more there is, no run repeats. */
export function quantity(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e12 || size < 1e-3) return value.toExponential(2);
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** Three decimals, so that a ratio near 1 shows on which side it is. */
export function ratioText(value: number): string {
  if (value === 0) return '0';
  return value >= 100 ? quantity(value) : value.toFixed(value >= 10 ? 2 : 3);
}

export function range(low: number, high: number, text: (value: number) => string): string {
  return `${text(low)}–${text(high)}`;
}

export function bytes(count: number): string {
  return `${(count / 2 ** 30).toFixed(1)} GiB`;
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** "a", "a and b", "a, b and c" */
export function list(items: readonly string[]): string {
  return items.length < 2 ? (items[0] ?? '') : `${items.slice(0, -1).join(', ')} and ${items.at(-1) ?? ''}`;
}

/** "1 round", "3 rounds" */
export function count(n: number, noun: string): string {
  return `${n.toLocaleString('en-US')} ${noun}${n === 1 ? '' : 's'}`;
}
