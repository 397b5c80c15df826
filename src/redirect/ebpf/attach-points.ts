/**
 * The programs of the object and where each is attached. Numbers are the kernel's (uapi linux/bpf.h) and never change.
 */

/** enum bpf_prog_type */
export const ProgType = { cgroupSockAddr: 18, sockOps: 13, skLookup: 30, cgroupSkb: 8 } as const;

/** enum bpf_attach_type of the programs attached to the cgroup root, by C name. */
export const CGROUP_PROGRAMS = {
  connect4: 10,
  connect6: 11,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  getpeername4: 29,
  getpeername6: 30,
  bind4: 8,
  bind6: 9,
  sock_ops: 3,
} as const;

export type CgroupProgram = keyof typeof CGROUP_PROGRAMS;
export const cgroupPrograms = Object.keys(CGROUP_PROGRAMS) as CgroupProgram[];

/** The template of the program each netns gets; never attached itself. */
export const LOOKUP_PROGRAM = 'lookup';
export const SK_LOOKUP_ATTACH = 36;
