/** Container images without a registry: an archive as `docker save` writes it, of one layer, for `ctr images import`. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface ImageConfig {
  entrypoint: readonly string[];
  /** "65532", "1000:1000"; default root. What runAsNonRoot asks about */
  user?: string;
  env?: Readonly<Record<string, string>>;
}

/**
 * The same tree gives the same image.
 * @param directory the root file system; its files become root's
 * @param name "culvert.test/app:1"
 * @param output path of the archive
 * @returns `output`
 */
export async function imageOf(directory: string, name: string, config: ImageConfig, output: string): Promise<string> {
  const work = mkdtempSync(join(dirname(output), 'cvt-image-'));
  try {
    const layer = join(work, 'layer.tar');
    await run('tar', ['-C', directory, '--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', '-cf', layer, '.']);
    const text = JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: {
        Entrypoint: config.entrypoint,
        User: config.user ?? '',
        Env: Object.entries({ PATH, ...config.env }).map(([key, value]) => `${key}=${value}`),
        WorkingDir: '/',
      },
      rootfs: { type: 'layers', diff_ids: [`sha256:${await digest(layer)}`] },
      history: [{ created_by: 'culvert' }],
    });
    const id = createHash('sha256').update(text).digest('hex');
    writeFileSync(join(work, `${id}.json`), text);
    const manifest = [{ Config: `${id}.json`, RepoTags: [name], Layers: ['layer.tar'] }];
    writeFileSync(join(work, 'manifest.json'), JSON.stringify(manifest));
    await run('tar', ['-C', work, '-cf', join(work, 'image'), 'manifest.json', `${id}.json`, 'layer.tar']);
    renameSync(join(work, 'image'), output);
    return output;
  } finally {
    rmSync(work, { recursive: true });
  }
}

async function digest(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
