import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const root = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');

it('every test that docs/hazards.md names is there, by its file and title', () => {
  const named = [...read('docs/hazards.md').matchAll(/`([a-z0-9/-]+)` "([^"]+)"/g)].map(([, file = '', title = '']) => ({ file, title }));
  expect(named.length).toBeGreaterThan(60);
  const missing = named.filter(({ file, title }) => {
    const path = `test/${file}.test.ts`;
    if (!existsSync(new URL(path, root))) return true;
    const text = read(path).replaceAll("\\'", "'");
    return !["'", '"', '`'].some((quote) => text.includes(quote + title + quote));
  });
  expect(missing).toEqual([]);
});
