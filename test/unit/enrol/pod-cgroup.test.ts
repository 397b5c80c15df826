import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalUid, ownerOf } from '../../../src/enrol/pod-cgroup.ts';

const UID = '2c48913c-b29f-11e7-9350-020968147796';
const SYSTEMD = UID.replaceAll('-', '_');
const HASH = '2c48913cb29f11e79350020968147796';
const ID = '9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961';

/** Every controller of a v1 host at the same path. */
const v1 = (path: string): string =>
  ['11:hugetlb', '10:devices', '9:pids', '8:perf_event', '7:net_cls,net_prio', '6:cpuset', '5:memory', '4:cpu,cpuacct', '1:name=systemd']
    .map((controllers) => `${controllers}:${path}\n`)
    .join('');
const v2 = (path: string): string => `0::${path}\n`;

describe('cgroup of a pod', () => {
  it.each([
    ['cgroupfs, v1, docker', v1(`/kubepods/burstable/pod${UID}/${ID}`)],
    ['cgroupfs, v2, containerd', v2(`/kubepods/besteffort/pod${UID}/${ID}`)],
    ['guaranteed: no class in the path', v2(`/kubepods/pod${UID}/${ID}`)],
    [
      'systemd, v2, containerd',
      v2(`/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${SYSTEMD}.slice/cri-containerd-${ID}.scope`),
    ],
    ['systemd, v1, docker', v1(`/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${SYSTEMD}.slice/docker-${ID}.scope`)],
    ['systemd, v2, CRI-O', v2(`/kubepods.slice/kubepods-pod${SYSTEMD}.slice/crio-${ID}.scope`)],
    ['CRI-O with a cgroup of its own below the scope', v2(`/kubepods.slice/kubepods-pod${SYSTEMD}.slice/crio-${ID}.scope/${ID}`)],
    ['CRI-O, cgroupfs', v1(`/kubepods/burstable/pod${UID}/crio-${ID}`)],
    ['CRI-O: the monitor', v2(`/kubepods.slice/kubepods-pod${SYSTEMD}.slice/crio-conmon-${ID}.scope`)],
    [
      'containerd below its own service',
      v1(`/system.slice/containerd.service/kubepods-burstable-pod${SYSTEMD}.slice:cri-containerd:${ID}`),
    ],
    ['hybrid: v2 says nothing', `${v1(`/kubepods/burstable/pod${UID}/${ID}`)}${v2('/')}`],
    ['hybrid: v2 is the service of the runtime', `${v1(`/kubepods/pod${UID}/${ID}`)}${v2('/system.slice/containerd.service')}`],
    ['hybrid: both', `${v1(`/kubepods/burstable/pod${UID}/${ID}`)}${v2(`/kubepods/burstable/pod${UID}/${ID}`)}`],
    ['hybrid: some controllers unused', `4:memory:/kubepods/pod${UID}/${ID}\n3:cpuset:/\n2:freezer:/\n${v2('/')}`],
    ['below the cgroup of a node that is a container', v1(`/docker/${'ab'.repeat(32)}/kubelet/kubepods/burstable/pod${UID}/${ID}`)],
    [
      'below a root of its own',
      v2(`/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${SYSTEMD}.slice/cri-containerd-${ID}.scope`),
    ],
    ['relative to the reader', v2(`/../../pod${UID}/${ID}`)],
    ['relative, systemd', v2(`/../../../kubepods-besteffort.slice/kubepods-besteffort-pod${SYSTEMD}.slice/cri-containerd-${ID}.scope`)],
    ['static pod: its uid is a hash', v1(`/kubepods/burstable/pod${HASH}/${ID}`)],
    ['upper case', v2(`/kubepods/pod${UID.toUpperCase()}/${ID}`)],
    ['removed under its last process', v2(`/kubepods/burstable/pod${UID}/${ID} (deleted)`)],
  ])('%s', (_, text) => {
    expect(ownerOf(text)).toEqual({ podUid: UID, containerId: ID });
  });

  it('names no container where the process is in the cgroup of the pod itself', () => {
    for (const path of [`/kubepods/pod${UID}`, `/kubepods.slice/kubepods-pod${SYSTEMD}.slice`])
      expect(ownerOf(v2(path))).toEqual({ podUid: UID, containerId: undefined });
  });

  it('knows only the container where CRI-O leaves the pod out', () => {
    for (const path of [`/../crio-${ID}.scope`, `/crio-${ID}`, `/machine.slice/crio-${ID}.scope`])
      expect(ownerOf(v2(path))).toEqual({ podUid: undefined, containerId: ID });
  });

  it.each([
    ['the host', `${v1('/')}${v2('/')}`],
    ['a service', v2('/system.slice/sshd.service')],
    ['a user', v2('/user.slice/user-0.slice/session-1.scope')],
    ['a container of docker alone', v1(`/docker/${ID}`)],
    ['a podman container', v2(`/machine.slice/libpod-${ID}.scope`)],
    ['a word before "pod"', v2(`/kubepods/xpod${UID}/${ID}`)],
    ['more digits than a UUID', v2(`/kubepods/pod${UID}0/${ID}`)],
    ['fewer', v2(`/kubepods/pod${UID.slice(1)}/${ID}`)],
    ['nothing', ''],
  ])('is none: %s', (_, text) => {
    expect(ownerOf(text)).toBeUndefined();
  });

  it('is refused when the lines name two pods, or two containers', () => {
    const other = UID.replace('2', '3');
    expect(ownerOf(`${v2(`/kubepods/pod${UID}/${ID}`)}4:memory:/kubepods/pod${other}/${ID}\n`)).toBeUndefined();
    expect(ownerOf(v2(`/kubepods/pod${UID}/${ID}/kubepods/pod${other}/${ID}`))).toBeUndefined();
    expect(ownerOf(`${v2(`/kubepods/pod${UID}/${ID}`)}4:memory:/kubepods/pod${UID}/${'cd'.repeat(32)}\n`)).toBeUndefined();
    expect(ownerOf(`${v2(`/crio-${ID}.scope`)}4:memory:/crio-${'cd'.repeat(32)}.scope\n`)).toBeUndefined();
    // made by a container in its own cgroup
    expect(ownerOf(v2(`/machine.slice/crio-${ID}.scope/crio-${'cd'.repeat(32)}`))).toBeUndefined();
    expect(ownerOf(v2(`/machine.slice/crio-${ID}.scope/any/crio-conmon-${'cd'.repeat(32)}.scope`))).toBeUndefined();
    expect(ownerOf(v2(`/machine.slice/crio-${ID}.scope/kubepods/pod${UID}/${ID}`))).toBeUndefined();
  });

  it('never throws, and finds no pod where none is written', () => {
    const piece = fc.constantFrom(
      '/',
      ':',
      'pod',
      UID,
      SYSTEMD,
      HASH,
      ID,
      '.slice',
      '.scope',
      'crio-',
      '0::',
      '\n',
      '..',
      ' (deleted)',
      '-',
    );
    const garbage = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.array(fc.oneof(piece, fc.string({ maxLength: 4 }))).map((all) => all.join('')),
    );
    fc.assert(
      fc.property(garbage, (text) => {
        const owner = ownerOf(text);
        if (owner?.podUid !== undefined)
          expect(text.toLowerCase().replaceAll(/[-_]/g, '')).toContain(`pod${owner.podUid.replaceAll('-', '')}`);
        if (owner?.containerId !== undefined) expect(text).toContain(owner.containerId);
      }),
      { numRuns: 500 },
    );
  });

  it('is found whatever surrounds it, in every spelling of the uid', () => {
    const part = fc.stringMatching(/^[a-z0-9.]{1,12}$/).filter((text) => !text.endsWith('pod'));
    const spelling = fc.tuple(fc.uuid(), fc.constantFrom('-', '_', ''));
    fc.assert(
      fc.property(
        fc.array(part),
        spelling,
        fc.constantFrom('/', '-', '_', ':', '.'),
        fc.constantFrom('', '.scope'),
        (parts, [uid, separator], before, end) => {
          const path = `/${parts.join('/')}${before}pod${uid.replaceAll('-', separator)}/cri-containerd-${ID}${end}`;
          expect(ownerOf(v2(path))).toEqual({ podUid: uid.toLowerCase(), containerId: ID });
        },
      ),
    );
  });

  it('spells uids one way', () => {
    for (const text of [UID, SYSTEMD, HASH, UID.toUpperCase()]) expect(canonicalUid(text)).toBe(UID);
    for (const text of ['', 'u-a', `${UID}0`, `x${UID}`]) expect(canonicalUid(text)).toBeUndefined();
  });
});
