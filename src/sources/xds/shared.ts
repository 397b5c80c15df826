/** One copy of what thousands of workloads have in common: decoding makes a new string for each. Lives as long as one response is read. */
import type { PortMap } from '../../state/workload.ts';

export class Shared {
  readonly #texts = new Map<string, string>();
  readonly #ports = new Map<string, PortMap>();

  text(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    this.#texts.set(text, text);
    return text;
  }

  ports(ports: PortMap): PortMap {
    let key = '';
    for (const [service, target] of ports) key += `${service}:${target},`;
    const known = this.#ports.get(key);
    if (known !== undefined) return known;
    this.#ports.set(key, ports);
    return ports;
  }
}
