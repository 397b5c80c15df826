/** The loader's constants, each away from its default: what an older kernel, or a node without a proof of the tunnel, gets. */
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import type { rodata } from '../../src/maps/layout.gen.ts';
import { bpfObject, native } from '../../src/sys/native.ts';
import { Datapath } from '../support/bpf-datapath.ts';
import { codeOf, SocketProcess, type End } from '../support/bpf-sockets.ts';

async function withConstants(
  constants: Partial<Record<keyof typeof rodata, number | bigint>>,
  use: (d: Datapath) => Promise<void>,
): Promise<void> {
  const d = await Datapath.create(constants);
  try {
    d.enrol();
    await use(d);
  } finally {
    await d.close();
  }
}
const outside = (d: Datapath): End => ({ address: d.outsidePod.ip4, port: 8080 });

test('have_retval 0: a refusal is EPERM', () =>
  withConstants({ have_retval: 0 }, async (d) => {
    const fd = await d.app.socket(4);
    expect(await codeOf(d.app.connect(fd, outside(d)))).toBe('EPERM');
  }));

test('tunnel_check 0: the mark is enough', () =>
  withConstants({ tunnel_check: 0 }, async (d) => {
    expect(await d.reasons(() => d.app.tunnelListen(15001))).toMatchObject({ REG_LISTENER: 1 });
    const fd = await d.app.socket(4);
    await d.app.setMark(fd, 0x539);
    expect(await d.reasons(() => codeOf(d.app.connect(fd, outside(d))))).toEqual({ OUT_PASS_TUNNEL: 1 });
  }));

test('have_bind_setsockopt 0: no bind fix for the app', () =>
  withConstants({ have_bind_setsockopt: 0 }, async (d) => {
    expect(await d.reasons(() => d.app.listen(8080))).toEqual({});
  }));

test('have_sockops_cookie 0: neither listeners nor probes are seen', () =>
  withConstants({ have_sockops_cookie: 0 }, async (d) => {
    const reasons = await d.reasons(async () => {
      await d.tunnel.tunnelListen(15001);
      const fd = await d.kubelet.socket(4);
      await codeOf(d.kubelet.connect(fd, { address: d.pod.ip4, port: 8080 }));
    });
    expect(reasons).toMatchObject({ IN_DROP_NO_TUNNEL: 1 });
    expect(d.maps.listeners.keys()).toEqual([]);
    expect(d.maps.exempt.keys()).toEqual([]);
  }));

test('node_netns 0: no probe is exempt', () =>
  withConstants({ node_netns: 0n }, async (d) => {
    const fd = await d.kubelet.socket(4);
    expect(await d.reasons(() => codeOf(d.kubelet.connect(fd, { address: d.pod.ip4, port: 8080 })))).toEqual({ IN_DROP_NO_TUNNEL: 1 });
  }));

test.each([
  ['its cgroup itself', 'kubelet', true],
  ['a cgroup below', 'kubelet/below', true],
  ['a cgroup beside', 'kubelet-not', false],
])('kubelet_only 1: %s', (_, cgroup, exempt) =>
  withConstants({ kubelet_only: 1 }, async (d) => {
    d.node.cgroupPath('kubelet');
    const process = SocketProcess.start(d.node.cgroupPath(cgroup), d.node.nodeNetns);
    try {
      for (const address of [d.pod.ip4, d.pod.ip6, `::ffff:${d.pod.ip4}`]) {
        const connect = async (): Promise<void> => {
          const fd = await process.socket(address.includes(':') ? 6 : 4);
          await codeOf(process.connect(fd, { address, port: 8080 }));
          await process.close(fd);
        };
        expect(await d.reasons(connect), 'nobody is kubelet yet').toEqual({ IN_DROP_NO_TUNNEL: 1 });
        const id = native.cgroupId(d.node.cgroupPath('kubelet'));
        d.maps.kubelets.set(id, 1n);
        expect(await d.reasons(connect)).toEqual(
          exempt ? { MISC_EXEMPT_ADDED: 1, IN_PASS_EXEMPT: 1, MISC_EXEMPT_DELETED: 1 } : { IN_DROP_NO_TUNNEL: 1 },
        );
        d.maps.kubelets.delete(id);
        expect(d.maps.exempt.keys()).toEqual([]);
      }
    } finally {
      await process.kill();
    }
  }),
);

test('what a constant rules out is not in the loaded program', () => {
  const helpersOf = (constants: Record<string, number>, name: string): string => {
    const loaded = native.bpfLoad(bpfObject(), { rodata: constants, reuse: {}, maxEntries: {}, programs: [name] });
    try {
      const { id } = native.bpfInfo(loaded.programs.find((p) => p.name === name)!.fd);
      const text = execFileSync('bpftool', ['prog', 'dump', 'xlated', 'id', String(id)], { encoding: 'utf8' });
      return text
        .split('\n')
        .filter((line) => line.includes(' call '))
        .join('\n');
    } finally {
      loaded.close();
    }
  };
  expect(helpersOf({}, 'connect4')).toContain('bpf_set_retval');
  expect(helpersOf({ have_retval: 0 }, 'connect4')).not.toContain('bpf_set_retval');
  expect(helpersOf({}, 'bind4')).toContain('setsockopt');
  expect(helpersOf({ have_bind_setsockopt: 0 }, 'bind4')).not.toContain('setsockopt');
  expect(helpersOf({}, 'sock_ops')).toContain('bpf_get_netns_cookie');
  expect(helpersOf({ have_sockops_cookie: 0 }, 'sock_ops')).not.toContain('bpf_get_netns_cookie');
  expect(helpersOf({}, 'connect4')).not.toContain('ancestor_cgroup_id');
  expect(helpersOf({ kubelet_only: 1 }, 'connect4')).toContain('ancestor_cgroup_id');
  expect(helpersOf({ kubelet_only: 1 }, 'sock_ops')).not.toContain('cgroup_id');
  // these have no room for setsockopt before 5.15, and no need
  expect(helpersOf({}, 'sendmsg4')).not.toContain('setsockopt');
});
