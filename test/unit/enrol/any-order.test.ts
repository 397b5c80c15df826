/** Labels, sandboxes, processes, tunnel and restarts in any order and overlapping: afterwards all is as the last word says, and nothing is left open. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { pino } from 'pino';
import { expect, it, vi } from 'vitest';
import { Attachments } from '../../../src/agent/attachments.ts';
import type { CniAddRequest } from '../../../src/agent/api.ts';
import { addPod, delPod } from '../../../src/agent/cni.ts';
import { CulvertError } from '../../../src/base/errors.ts';
import { REDIRECTION_ANNOTATION } from '../../../src/enrol/policy.ts';
import { mesh, pod, World } from '../../support/enrol-world.ts';

const log = pino({ level: 'silent' });
/** of one pod; "late del": of the sandbox before */
const EVENTS = [
  'label',
  'unlabel',
  'delete',
  'again',
  'add',
  'del',
  'late del',
  'walk',
  'gone',
  'ended',
  'tunnel',
  'no tunnel',
  'restart',
  'tick',
  'wait',
  'fail',
] as const;
type Event = (typeof EVENTS)[number];

class Node {
  readonly world = new World();
  readonly directory = mkdtempSync(join(tmpdir(), 'cvt-any-'));
  readonly attachments = new Attachments(this.directory, log);
  mode: string | undefined;
  generation = 0;
  there = true;
  phase: 'Running' | 'Succeeded' = 'Running';
  sandbox = 0;
  readonly under: Promise<unknown>[] = [];

  constructor() {
    this.world.netns.clear();
  }

  get uid(): string {
    return `u-${this.generation}`;
  }

  apply(): void {
    const annotation = this.world.annotations.get(this.uid);
    const annotations: Record<string, string> = annotation === undefined ? {} : { [REDIRECTION_ANNOTATION]: annotation };
    const pods = this.there ? [pod('a', undefined, { uid: this.uid, annotations, phase: this.phase })] : [];
    this.world.reconciler.apply(mesh(this.mode, ...pods));
  }

  request(): CniAddRequest {
    return {
      network: 'k8s',
      containerId: `c${this.sandbox}`,
      netns: `/ns/${this.sandbox}`,
      ifname: 'eth0',
      podNamespace: 'shop',
      podName: 'a',
      podUid: this.uid,
      ips: ['10.0.0.1'],
    };
  }

  newSandbox(): void {
    this.sandbox++;
    this.world.netns.set(`/ns/${this.sandbox}`, 1000 + this.sandbox);
  }

  async do(event: Event): Promise<void> {
    const { world } = this;
    switch (event) {
      case 'label':
        this.mode = 'ambient';
        this.apply();
        return;
      case 'unlabel':
        this.mode = undefined;
        this.apply();
        return;
      case 'delete':
        this.there = false;
        this.apply();
        return;
      case 'again':
        this.there = true;
        this.phase = 'Running';
        this.generation++;
        world.processes.clear();
        this.apply();
        return;
      case 'ended':
        this.phase = 'Succeeded';
        this.apply();
        return;
      case 'add': {
        this.newSandbox();
        const request = this.request();
        this.attachments.remember(request);
        this.under.push(addPod(world.reconciler, request, 50).catch(() => undefined));
        return;
      }
      case 'del':
        this.under.push(this.del(this.sandbox));
        return;
      case 'late del':
        this.under.push(this.del(this.sandbox - 1));
        return;
      case 'walk':
        if (this.sandbox > 0 && this.there) world.processes.set(this.uid, `/ns/${this.sandbox}`);
        return;
      case 'gone':
        world.netns.delete(`/ns/${this.sandbox}`);
        world.processes.delete(this.uid);
        return;
      case 'tunnel':
        world.tunnel = 'acks';
        world.reconciler.tunnelReady();
        return;
      case 'no tunnel':
        world.tunnel = 'none';
        world.reconciler.tunnelsGone();
        return;
      case 'restart':
        await world.restart();
        this.apply();
        return;
      case 'tick':
        world.reconciler.tick();
        return;
      case 'fail':
        world.annotateFailures = 1;
        world.driver.failures.set('remove', [new CulvertError('SYSTEM', 'busy')]);
        return;
      case 'wait':
        await new Promise((resolve) => setTimeout(resolve, 5));
        return;
    }
  }

  async del(n: number): Promise<void> {
    const { world, attachments } = this;
    const gone = delPod(
      { reconciler: world.reconciler, attachments, openNetns: world.openNetns },
      { containerId: `c${n}`, netns: '', ifname: '', podNamespace: 'shop', podName: 'a', podUid: '' },
    );
    await gone;
    world.netns.delete(`/ns/${n}`);
    if (this.world.processes.get(this.uid) === `/ns/${n}`) this.world.processes.delete(this.uid);
  }

  until(check: () => void): Promise<void> {
    return vi.waitFor(
      () => {
        this.apply();
        this.world.reconciler.tick();
        check();
      },
      { interval: 3, timeout: 2500 },
    );
  }
}

it('ends as the last word says', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...EVENTS), { minLength: 1, maxLength: 40 }), fc.boolean(), async (events, byAdd) => {
      const node = new Node();
      const { world } = node;
      const trail = (): string =>
        `${events.join(', ')} | state ${world.state(node.uid)} ${world.why(node.uid)} kernel ${world.kernel().join()} ann ${JSON.stringify([...world.annotations])}`;
      try {
        for (const event of events) await node.do(event);
        await Promise.all(node.under);
        world.tunnel = 'acks';
        world.annotateFailures = 0;
        node.mode = 'ambient';
        if (!node.there || node.phase !== 'Running') {
          node.generation++;
          node.there = true;
          node.phase = 'Running';
          world.processes.clear();
        }
        node.apply();
        node.newSandbox();
        if (byAdd) {
          node.attachments.remember(node.request());
          void addPod(world.reconciler, node.request(), 50).catch(() => undefined);
        } else {
          for (let n = 0; n < node.sandbox; n++) await node.del(n);
          for (const path of [...world.netns.keys()]) if (path !== `/ns/${node.sandbox}`) world.netns.delete(path);
          world.processes.set(node.uid, `/ns/${node.sandbox}`);
        }
        await node.until(() => {
          expect(
            [
              world.state(node.uid),
              world.kernel().join(),
              world.annotations.get(node.uid),
              [...world.driver.kernel.keys()].join(),
              [...world.open].join(),
            ],
            trail(),
          ).toEqual(['enrolled', 'a active', 'enabled', String(1000 + node.sandbox), String(1000 + node.sandbox)]);
        });
        node.mode = undefined;
        await node.until(() => {
          expect(
            [world.state(node.uid), world.kernel().join(), world.annotations.get(node.uid), world.set.has(node.uid), world.open.size],
            trail(),
          ).toEqual(['out', '', undefined, false, 0]);
        });
      } finally {
        await world.reconciler.close();
        rmSync(node.directory, { recursive: true });
      }
    }),
    { numRuns: 50 },
  );
}, 120_000);
