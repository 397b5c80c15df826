/** Who asks an agent without being able to: an addon that can't be loaded is no word about the agent. */
import { describe, expect, it, vi } from 'vitest';
import { ask } from '../../../src/cli/admin.ts';

const door = { node: undefined, runDir: '/nonexistent/culvert' };

describe('asking an agent', () => {
  // first, while no addon is loaded
  it('names the addon that is missing, whatever the system says of it', async () => {
    const dlopen = vi.spyOn(process, 'dlopen').mockImplementation(() => {
      throw Object.assign(new Error('ENOENT: no such file or directory'), { code: 'ENOENT', errno: -2, syscall: 'mkdir' });
    });
    await expect(ask(door, { op: 'status' })).rejects.toMatchObject({
      code: 'NATIVE_LOAD',
      systemCode: 'ENOENT',
      message: expect.stringContaining('load native addon: ') as unknown,
    });
    dlopen.mockRestore();
  });

  it('says that nobody listens where there is no socket', async () => {
    await expect(ask(door, { op: 'status' })).rejects.toMatchObject({
      code: 'AGENT_UNREACHABLE',
      message: 'ask agent: nobody listens (/nonexistent/culvert/admin.sock); is it running?',
    });
  });
});
