/** The two directories of a host that belong to its container runtime; distributions differ. */
import type { Command } from 'commander';

export interface HostDirectories {
  cniBinDir: string;
  cniConfDir: string;
}

export function hostDirectories(command: Command): Command {
  return command
    .option('--cni-bin-dir <dir>', 'where the runtime looks for plugins', '/opt/cni/bin')
    .option('--cni-conf-dir <dir>', 'where the runtime looks for network configurations', '/etc/cni/net.d');
}
