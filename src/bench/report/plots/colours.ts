/** One colour for each scenario, told apart by most colour-blind eyes (Okabe and Ito's); every mark also has its scenario's name beside it. */
const KNOWN = new Set(['direct', 'direct-2', 'iptables', 'nftables', 'ebpf', 'geneve']);

export function colourOf(scenario: string): string {
  return KNOWN.has(scenario) ? `var(--${scenario})` : 'var(--quiet)';
}

/** For a colour channel over these scenarios. */
export function colours(scenarios: readonly string[]): { domain: string[]; range: string[] } {
  return { domain: [...scenarios], range: scenarios.map(colourOf) };
}
