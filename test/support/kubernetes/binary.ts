/** The one executable that holds etcd and the parts of Kubernetes. Made by scripts/tools.sh; CULVERT_TEST_KUBE names another. */
import { existsSync } from 'node:fs';

const BUILT = new URL('../../../build/test/kube', import.meta.url).pathname;

/** @throws when there is none */
export function kubeBinary(): string {
  const path = process.env['CULVERT_TEST_KUBE'] ?? BUILT;
  if (!existsSync(path)) throw new Error(`no ${path}: scripts/tools.sh kube makes it (about five minutes the first time)`);
  return path;
}
