/** A host's two CNI directories, and a plugin to put there. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger, type Logger } from '../../src/base/log.ts';
import type { PluginSettings } from '../../src/install/conflist.ts';

export const settings: PluginSettings = {
  runDir: '/var/run/culvert',
  stateDir: '/var/lib/culvert',
  onAgentDown: 'known',
  statusPolicy: 'node-ready',
};

export const silent: Logger = createLogger('test', 'silent');

export interface Host {
  root: string;
  binDir: string;
  confDir: string;
  /** the executable to install */
  plugin: string;
  write(name: string, text: string, mode?: number): string;
  read(name: string): string;
  /** what is in the configuration directory */
  names(): string[];
  remove(): void;
}

export function host(): Host {
  const root = mkdtempSync(join(tmpdir(), 'cvt-install-'));
  chmodSync(root, 0o755); // tests look at it as nobody, too
  const [binDir, confDir, plugin] = [join(root, 'bin'), join(root, 'net.d'), join(root, 'built')];
  mkdirSync(confDir);
  writeFileSync(plugin, '#!/bin/sh\n', { mode: 0o600 });
  return {
    root,
    binDir,
    confDir,
    plugin,
    write(name, text, mode = 0o644) {
      const path = join(confDir, name);
      writeFileSync(path, text);
      chmodSync(path, mode);
      return path;
    },
    read: (name) => readFileSync(join(confDir, name), 'utf8'),
    names: () => readdirSync(confDir).sort(),
    remove: () => rmSync(root, { recursive: true }),
  };
}

/** A list as kindnet's, in short. */
export const kindnet = JSON.stringify({
  cniVersion: '0.3.1',
  name: 'kindnet',
  plugins: [{ type: 'ptp', mtu: 1500 }, { type: 'portmap' }],
});

/** Runs `work` as a user whom permissions bind. */
export async function unprivileged<T>(work: () => Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return work();
  process.seteuid?.(65534);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}
