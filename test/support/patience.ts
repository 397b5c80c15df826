/** Before every file: `vi.waitFor` gives up after a second by itself, which a busy machine needs for less. */
import { vi } from 'vitest';

const PATIENCE_MS = 20_000;
const { waitFor } = vi;

vi.waitFor = (check, options) => waitFor(check, typeof options === 'number' ? options : { timeout: PATIENCE_MS, ...options });
