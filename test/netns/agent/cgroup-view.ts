/** What a process in a cgroup namespace of its own makes of cgroup v2. Argument: pid of a process outside of it. Prints JSON. */
import { describe } from '../../../src/base/errors.ts';
import { cgroup2Mount, cgroupOf, openCgroups } from '../../../src/sys/cgroup.ts';

const attempt = (look: () => string): string => {
  try {
    return look();
  } catch (error) {
    return describe(error);
  }
};
process.stdout.write(
  JSON.stringify({
    mount: attempt(cgroup2Mount),
    shown: cgroupOf(Number(process.argv[2])),
    own: attempt(() => openCgroups().directory(cgroupOf('self'))),
    other: attempt(() => openCgroups().directory(cgroupOf(Number(process.argv[2])))),
  }),
);
