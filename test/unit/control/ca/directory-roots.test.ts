import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { Authority } from '../../../../src/control/ca/authority.ts';
import { DirectoryRoots } from '../../../../src/control/ca/directory-roots.ts';
import { createLocalCa } from '../../../../src/tunnel/local-ca.ts';
import { recordingLog } from '../../../support/ca/log.ts';

const dir = mkdtempSync(join(tmpdir(), 'cvt-roots-'));
afterAll(() => {
  rmSync(dir, { recursive: true });
});

describe("a lab's root", () => {
  it('is that of the local CA, followed when it is replaced, kept when it goes bad', async () => {
    const { log, lines } = recordingLog();
    await createLocalCa(dir, { name: 'first' });
    const roots = await DirectoryRoots.open({ dir, log, checkMs: 20 });
    const authority = new Authority(roots.material);
    roots.onMaterial((material) => authority.install(material));
    const name = () => new X509Certificate(authority.roots).subject;
    expect(name()).toBe('CN=first');
    writeFileSync(join(dir, 'ca.key'), 'garbage');
    await vi.waitFor(() =>
      expect(lines.some(({ msg }) => msg.includes(`read CA from directory ${dir} (ca.crt, ca.key): ca-key.pem:`))).toBe(true),
    );
    expect(name()).toBe('CN=first');
    await createLocalCa(dir, { name: 'second' });
    await vi.waitFor(() => expect(name()).toBe('CN=second'));
    roots.close();
  });

  it('must be good at the start', async () => {
    const { log } = recordingLog();
    await expect(DirectoryRoots.open({ dir: '/nonexistent', log })).rejects.toMatchObject({ code: 'CERTIFICATE', systemCode: 'ENOENT' });
  });
});
