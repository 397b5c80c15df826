/** Run by container.test.ts in a mount namespace with a read-only /proc/sys: one verb of the driver on one netns. Says JSON. */
import { closeSync, openSync } from 'node:fs';
import { createLogger } from '../../../src/base/log.ts';
import { describe } from '../../../src/base/errors.ts';
import { createEbpfDriver } from '../../../src/redirect/ebpf/index.ts';
import { bpfObject, native } from '../../../src/sys/native.ts';
import { Netns } from '../../../src/sys/netns.ts';

const [verb, procRoot = '', pinDir = '', cgroupRoot = '', nodeNetns = '', netnsPath = ''] = process.argv.slice(2);
native.sysctlProc(procRoot);
const log = createLogger('test', 'silent');
const driver = createEbpfDriver({
  object: bpfObject(),
  pinDir,
  cgroupRoot,
  nodeNetns,
  procRoot,
  instance: 0xc0ffeen,
  maxPods: 110,
  log,
});
const netnsFd = openSync(netnsPath, 'r');
const flags = { dns: false, ingressMode: false, markOnly: false };
const answer: Record<string, unknown> = {};
try {
  const { cookie, state } = await driver.prepare({
    uid: 'uid-web',
    namespace: 'test',
    name: 'web',
    netnsFd,
    netnsCookie: native.netnsCookie(netnsFd),
    netnsPath,
    flags,
  });
  answer['state'] = state;
  if (verb === 'remove') {
    await driver.remove(cookie, netnsFd, 0);
    answer['state'] = 'none';
  }
} catch (error) {
  answer['error'] = describe(error);
}
using node = Netns.open(nodeNetns);
answer['node'] = node.run({ op: 'sysctl-read', path: 'net/ipv4/fwmark_reflect' });
closeSync(netnsFd);
driver.close();
console.log(JSON.stringify(answer));
