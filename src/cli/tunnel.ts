/** `culvert connections` and `culvert certs`: asked of the tunnel itself. */
import type { Command } from 'commander';
import type { DumpedCertificate } from '../tunnel/config-dump.ts';
import type { Cli } from './main.ts';
import { answer } from './output.ts';
import { fromAll, reading, type ReadingOptions } from './reading.ts';
import { tunnelDumps } from './tunnel-admin.ts';

export function addConnections(root: Command, cli: Cli): void {
  reading(root, 'connections')
    .description("the tunnel's live connections")
    .action(async (options: ReadingOptions) => {
      const rows = await fromAll(cli, options, async (target) => (await tunnelDumps(target)).flatMap(({ connections }) => connections));
      if (rows.some(({ bytesIn }) => bytesIn === null))
        cli.io.err("remark: Istio's ztunnel tells neither the peer's identity nor the bytes of an open connection\n");
      await answer(cli.io, options.output, rows, () => ({
        head: ['POD', 'NODE', 'DIRECTION', 'SOURCE', 'ORIGINAL DESTINATION', 'ACTUAL DESTINATION', 'PROTOCOL', 'PEER', 'IN', 'OUT'],
        rows: rows.map((row) => [
          row.pod,
          row.node,
          row.direction,
          row.src,
          row.originalDst,
          row.actualDst,
          row.protocol,
          row.peerIdentity ?? '',
          bytes(row.bytesIn),
          bytes(row.bytesOut),
        ]),
      }));
    });
}

export function addCerts(root: Command, cli: Cli): void {
  reading(root, 'certs')
    .description("the tunnel's workload certificates")
    .action(async (options: ReadingOptions) => {
      const rows = await fromAll(cli, options, async (target) => (await tunnelDumps(target)).flatMap(({ certificates }) => certificates));
      const leaves = rows.map(({ node, identity, notBefore, notAfter, state, serial, error, errorTime }) => ({
        node,
        identity,
        notBefore,
        notAfter,
        state,
        serial,
        error,
        errorTime,
      }));
      await answer(cli.io, options.output, leaves, () => ({
        head: ['IDENTITY', 'NODE', 'STATE', 'NOT BEFORE', 'NOT AFTER', 'SERIAL'],
        rows: leaves.map((leaf) => [
          leaf.identity,
          leaf.node,
          stateText(leaf),
          leaf.notBefore ?? '',
          leaf.notAfter ?? '',
          leaf.serial ?? '',
        ]),
      }));
    });
}

/** With what went wrong at the last try, also where the certificate at hand is still good. */
function stateText({ state, error, errorTime }: Pick<DumpedCertificate, 'state' | 'error' | 'errorTime'>): string {
  return error === null ? state : `${state} (${errorTime ?? ''} ${error})`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

function bytes(count: number | null): string {
  if (count === null) return '';
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(count, 1)) / 10));
  return `${power === 0 ? count : (count / 1024 ** power).toFixed(1)} ${UNITS[power]}`;
}
