/** A packet capture on the fabric, between the nodes: everything that an eavesdropper there would have. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CulvertError } from '../../base/errors.ts';
import { fabricBridge, fabricNetns } from '../network/fabric.ts';
import { inNetns } from '../network/netns.ts';
import type { LabPaths } from '../paths.ts';
import { until } from '../until.ts';

/** Datagrams to it mark places in a capture. */
export const DISCARD_PORT = 9;

export class Capture {
  readonly #file: string;
  readonly #tcpdump: ChildProcess;

  private constructor(file: string, tcpdump: ChildProcess) {
    this.#file = file;
    this.#tcpdump = tcpdump;
  }

  /** Resolves when tcpdump listens. @throws CulvertError LAB when it cannot */
  static async start(lab: LabPaths): Promise<Capture> {
    const file = join(lab.dir, `capture-${Date.now()}.pcap`);
    const argv = inNetns(lab.netns(fabricNetns), [
      'tcpdump',
      '-i',
      fabricBridge,
      '-w',
      file,
      '-U',
      '--immediate-mode',
      '-s',
      '0',
      '-Z',
      'root',
      `tcp or udp port ${DISCARD_PORT}`,
    ]);
    const [program, ...args] = argv as [string, ...string[]];
    const tcpdump = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    await new Promise<void>((resolve, reject) => {
      let said = '';
      const failed = (cause: string): void => {
        reject(new CulvertError('LAB', `capture on the fabric: ${cause}`));
      };
      tcpdump.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (said.includes('listening on')) resolve();
      });
      tcpdump.once('error', (error) => {
        failed(`${error.message}; on Debian: apt-get install tcpdump`);
      });
      tcpdump.once('exit', () => {
        failed(said.trim());
      });
    });
    return new Capture(file, tcpdump);
  }

  /** Resolves when this text has come by: then everything before it is in the file, too. */
  async seen(text: string): Promise<void> {
    await until('the capture to catch up', 5000, () => (readFileSync(this.#file).includes(text) ? true : undefined));
  }

  /** Ends the capture. @returns the whole file */
  async stop(): Promise<Buffer> {
    const ended = once(this.#tcpdump, 'exit');
    this.#tcpdump.kill('SIGINT'); // it writes out what it has
    await ended;
    const bytes = readFileSync(this.#file);
    rmSync(this.#file);
    return bytes;
  }
}
