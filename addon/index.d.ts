/**
 * The native addon: the only door to bpf(2), setns(2), netlink and SCM_RIGHTS. Imported by `src/sys/native.ts` and nobody else.
 *
 * Conventions: every failing call throws an `Error` with `code` ("ENOENT"), `errno` (positive) and `syscall`; arguments are
 * checked in TypeScript, C++ trusts them. A file descriptor returned is owned by the caller (CLOEXEC). 64-bit values are
 * `bigint`. A netns is entered only on the addon's own netns thread, inside one guard; failing to return aborts the process.
 * Watches run on one epoll thread and report through thread-safe functions; `close()` is idempotent.
 */

// ---- bpf objects, maps, programs, links
export interface LoadOptions {
  /** rodata variables set between open and load, by C name. A name the object lacks is an error. */
  rodata: Record<string, number | bigint>;
  /** map name -> path of a pin to reuse instead of creating it */
  reuse: Record<string, string>;
  /** map name -> max_entries */
  maxEntries: Record<string, number>;
  /** program names to load; undefined loads all */
  programs?: string[];
}
export interface ProgramInfo {
  fd: number;
  name: string;
  section: string;
  attachType: number;
  tag: string;
}
export interface LoadedObject {
  programs: ProgramInfo[];
  maps: { name: string; fd: number; type: number; keySize: number; valueSize: number; maxEntries: number }[];
  /** closes every fd above; pinned or attached objects live on */
  close(): void;
}
/** Throws with `log` (the verifier's, whole) and `program` when a program is rejected. */
export function bpfLoad(object: Uint8Array, options: LoadOptions): LoadedObject;
/** Instructions of one program of an object, after relocation of its maps to the given fds (struct bpf_insn[], 8 bytes each). */
export function bpfInstructions(loaded: LoadedObject, program: string): Uint8Array;
/** BPF_PROG_LOAD of raw instructions (a per-pod program with its map patched in). */
export function bpfProgLoad(insns: Uint8Array, progType: number, attachType: number, name: string, license: string): number;
/** The same on another thread. The maps that the instructions name must stay open until then. */
export function bpfProgLoadAside(insns: Uint8Array, progType: number, attachType: number, name: string, license: string): Promise<number>;
export function bpfPin(fd: number, path: string): void;
export function bpfGet(path: string): number;
export function bpfLinkCreate(progFd: number, targetFd: number, attachType: number): number;
export function bpfLinkUpdate(linkFd: number, progFd: number): void;
export function bpfLinkDetach(linkFd: number): void;
export interface BpfInfo {
  kind: 'map' | 'prog' | 'link';
  id: number;
  name: string;
  type: number;
  /** prog */ tag?: string;
  mapIds?: number[];
  /** nanoseconds and runs counted while somebody had statistics on (bpfEnableStats) */
  runTimeNs?: number;
  runCount?: number;
  /** map */ keySize?: number;
  valueSize?: number;
  maxEntries?: number;
  memlock?: number;
  /** link */ progId?: number;
  attachType?: number;
  cgroupId?: bigint;
  netnsIno?: number;
}
export function bpfInfo(fd: number): BpfInfo;
/** The kernel measures every run of every program until the fd is closed, also by the end of this process (kernel >= 5.8). */
export function bpfEnableStats(): number;
/** An fd of a program that is loaded. */
export function bpfProgramById(id: number): number;
/** Programs attached to a cgroup for an attach type (BPF_PROG_QUERY, not effective). */
export function bpfCgroupQuery(cgroupFd: number, attachType: number): number[];
/** One map, whose sizes are asked for once. It does not own the fd, and may not be used after that is closed. Keys and values of wrong length: EINVAL. */
export interface BpfMap {
  /** Undefined when the key is absent. For per-CPU maps the values of all possible CPUs, concatenated. */
  lookup(key: Uint8Array): Uint8Array | undefined;
  /** flags: BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2. For SOCKHASH the value is a u64 holding a socket fd. */
  update(key: Uint8Array, value: Uint8Array, flags?: number): void;
  /** False when the key was absent. */
  delete(key: Uint8Array): boolean;
  /** Of keys one behind the other. @returns how many were there */
  deleteAll(keys: Uint8Array): number;
}
export function bpfMap(fd: number): BpfMap;
/** A map without a pin, which lives while somebody holds it. @param name at most 15 characters */
export function bpfMapCreate(
  type: number,
  name: string,
  shape: { keySize: number; valueSize: number; maxEntries: number; flags: number },
): number;
/** All entries; value is empty where it cannot be read (SOCKHASH without readable cookie). Survives concurrent change. */
export function bpfMapDump(fd: number): { key: Uint8Array; value: Uint8Array }[];
export function bpfPossibleCpus(): number;
export interface TestRun {
  retval: number;
  dataOut: Uint8Array;
  ctxOut: Uint8Array;
  duration: number;
}
export function bpfTestRun(progFd: number, options: { data?: Uint8Array; ctx?: Uint8Array; repeat?: number }): TestRun;
/** True when a trivial program of the type may call the helper. */
export function bpfProbeHelper(progType: number, attachType: number, helper: number): boolean;
export function bpfRingbuf(mapFd: number, pollMs: number, onRecords: (records: Uint8Array[]) => void): { close(): void };

// ---- network namespaces; a netnsFd of -1 is the process's own
/** Cookie of a netns (SO_NETNS_COOKIE, kernel >= 5.14). */
export function netnsCookie(netnsFd: number): bigint;
export type NetnsOp =
  | { op: 'addresses' }
  /** a device that is up stays so */
  | { op: 'link-up'; device: string }
  | { op: 'rule'; add: boolean; family: 4 | 6; pref: number; mark: number; mask: number; action: 'lookup' | 'prohibit'; table: number }
  /** a local default route. One takes the place of another of the same metric (default 0), whatever its device */
  | { op: 'route'; add: boolean; family: 4 | 6; table: number; device: string; src?: string; metric?: number }
  | { op: 'rules'; family: 4 | 6 }
  | { op: 'routes'; family: 4 | 6; table: number }
  /** path "net.ipv4.x" or "net/ipv4/x"; anything outside net/ is the machine's and refused */
  | { op: 'sysctl'; path: string; value: string }
  | { op: 'sysctl-read'; path: string }
  /** TCP sockets with (mark & mask) == value: inet_diag. listening: no others */
  | { op: 'sockets'; mark: number; mask: number; listening?: boolean }
  /** SOCK_DESTROY of the same set without listeners; result count */
  | { op: 'sockets-destroy'; mark: number; mask: number }
  /** packets that the netns has forwarded since it was made, both families */
  | { op: 'forwarded' }
  /** how many rules use an ipset; 0 when there is none of this name, or no ipset in the kernel */
  | { op: 'ipset-references'; name: string }
  /** of a set that has comments; one that is there already, or is not there to be taken out, is no fault. ENOENT: no such set */
  | { op: 'ipset-member'; add: boolean; family: 4 | 6; name: string; address: string; comment: string }
  /** names of the sets that rules of an nftables table of family inet look addresses up in; none when there is no such table */
  | { op: 'nft-lookups'; table: string }
  /** chains of nftables, those that iptables-nft makes included; asking does not make any */
  | { op: 'nft-chains' }
  /** everything of nftables but the elements of sets; asking makes nothing */
  | { op: 'nft-ruleset' }
  /** chains that somebody made in tables of legacy iptables, "4 nat ISTIO_PRERT"; asking makes no table */
  | { op: 'xtables-chains' };
/** "inet istio-ambient-nat prerouting" */
export interface NftChain {
  name: string;
  rules: number;
}
/**
 * words: tables, chains and rules in the kernel's own words, without handles and counters: the same words are the same rules. packets:
 * of each rule in the kernel's order; chain: family's number, table and chain, "2 nat CULVERT_OUTPUT"
 */
export interface NftRuleset {
  words: Uint8Array;
  packets: { chain: string; packets: number }[];
}
export interface Address {
  address: string;
  family: 4 | 6;
  ifindex: number;
  device: string;
  scope: number;
  prefix: number;
}
export interface Rule {
  pref: number;
  mark: number;
  mask: number;
  action: 'lookup' | 'prohibit' | 'blackhole' | 'unreachable' | 'other';
  table: number;
}
/** destination: "default" or "10.0.0.0/24" */
export interface Route {
  type: 'unicast' | 'local' | 'broadcast' | 'multicast' | 'blackhole' | 'unreachable' | 'prohibit' | 'other';
  destination: string;
  device: string;
  src?: string;
}
/** Never a socket in TIME_WAIT. state: the kernel's TCP_* number */
export interface DiagSocket {
  family: 4 | 6;
  state: number;
  src: string;
  sport: number;
  dst: string;
  dport: number;
  mark: number;
  inode: number;
  /** IP_TRANSPARENT; undefined where the kernel does not say it */
  transparent?: boolean;
  cookie: bigint;
}
/**
 * One result per op. EEXIST on add and ENOENT/ESRCH on delete are ok. Values: 'addresses' Address[], 'rules' Rule[], 'routes'
 * Route[], 'sysctl-read' string, 'sockets' DiagSocket[], 'sockets-destroy' number, 'forwarded' number, 'ipset-references' number, 'nft-lookups' string[],
 * 'nft-chains' NftChain[], 'nft-ruleset' NftRuleset, 'xtables-chains' string[].
 */
export type NetnsResult = { ok: true; value?: unknown } | { ok: false; code: string; errno: number; syscall: string; message: string };
/** Runs the ops in order in one entry of the netns; stops at the first failure unless keepGoing. */
export function netnsRun(netnsFd: number, ops: NetnsOp[], keepGoing?: boolean): NetnsResult[];
/** The procfs through which sysctls are read and written from now on; "/proc" until it is called. */
export function sysctlProc(path: string): void;
/**
 * rtnetlink subscription inside a netns. 'overflow' is ENOBUFS: resync everything. Its socket keeps the netns alive until
 * close(): a deleted pod's watch must be closed, or its devices and addresses stay.
 */
export function netnsWatch(netnsFd: number, onChange: (what: ('address' | 'rule' | 'route' | 'overflow')[]) => void): { close(): void };
/** A connection as conntrack confirmed it. protocol: IPPROTO_*; `answers`: where its answers come from, `destination` unless translated */
export interface NewConnection {
  protocol: number;
  source: { address: string; port: number };
  destination: { address: string; port: number };
  answers: { address: string; port: number };
}
/**
 * Subscription to new connections of a netns (ctnetlink); silent where nothing there uses conntrack. `lost` counts overflows of the
 * socket's buffer since the last call. Keeps the netns alive until close().
 */
export function netnsConntrack(netnsFd: number, onNew: (connections: NewConnection[], lost: number) => void): { close(): void };

// ---- sockets made inside a netns, adopted by fd
export interface SocketOptions {
  family: 4 | 6;
  type: 'tcp' | 'udp';
  mark?: number;
  reusePort?: boolean;
  reuseAddr?: boolean;
  /** IP_TRANSPARENT / IPV6_TRANSPARENT; both for a v6 listener */
  transparent?: boolean;
  freebind?: boolean;
  noDelay?: boolean;
  v6only?: boolean;
  keepalive?: { idle: number; interval: number; count: number };
  /** bytes that can be written while the peer reads nothing; beyond the system's limit too (SO_SNDBUFFORCE). Inherited by what a listener accepts. */
  sendBuffer?: number;
  bind?: { address: string; port: number };
  listen?: { backlog: number };
}
/** A socket of that netns, options set, bound and listening as asked; non-blocking. */
export function netnsSocket(netnsFd: number, options: SocketOptions): number;
/**
 * A connected TCP socket of that netns. Non-blocking connect, awaited on the epoll thread. With `source` the socket is bound
 * (IP_BIND_ADDRESS_NO_PORT must not be used: the datapath needs the final tuple before connect). timeoutMs rejects ETIMEDOUT.
 * An error that came after the SYN went out carries `local` {address, port}; ECONNRESET then says that the connection was
 * established and closed before it could be handed over.
 */
export function netnsConnect(
  netnsFd: number,
  options: Omit<SocketOptions, 'bind' | 'listen'> & {
    source?: { address: string; port: number };
    destination: { address: string; port: number };
    timeoutMs: number;
  },
): Promise<number>;
/** setsockopt(SOL_SOCKET, SO_MARK) on an fd. */
export function socketMark(fd: number, mark: number): void;
export function socketReuseAddr(fd: number): void;
/** Local and remote end as the kernel has them, without touching a libuv handle. */
export function socketNames(fd: number): { local: { address: string; port: number }; remote?: { address: string; port: number } };
/**
 * SO_ORIGINAL_DST of an accepted socket: what its client dialled, before a rule of netfilter turned it here. IPv4 is asked first, also
 * of an IPv6 socket. Undefined when conntrack knows no such connection, or is not there.
 */
export function socketOriginalDestination(fd: number): { address: string; port: number } | undefined;
/** SO_LINGER 0 then close: the peer sees RST. */
export function socketReset(fd: number): void;
/** Duplicates an fd of another process (pidfd_getfd, kernel >= 5.6; needs ptrace access). */
export function pidfdGetFd(pid: number, fd: number): number;
/** What an fd is, if it is a TCP listener: { port, mark, netnsCookie, transparent }; undefined otherwise. */
export function socketListener(fd: number): { port: number; mark: number; cookie: bigint; transparent: boolean; family: 4 | 6 } | undefined;

// ---- unix SOCK_SEQPACKET with fds
export interface Peer {
  pid: number;
  uid: number;
  gid: number;
}
export interface Seqpacket {
  readonly peer: Peer;
  /** One packet, at most one fd. The sender keeps its fd. Throws EPIPE, EAGAIN (queue full), EMSGSIZE. */
  send(data: Uint8Array, fd?: number): void;
  close(): void;
}
export interface SeqpacketHandlers {
  /** fds are owned by the receiver. truncated: MSG_TRUNC or MSG_CTRUNC was set (data incomplete, fds closed already). */
  onPacket(data: Uint8Array, fds: number[], truncated: boolean): void;
  /** once; error undefined on EOF or own close */
  onClose(error?: Error): void;
}
/** Binds (a stale socket file is removed), listens; maxPacket is the receive buffer. mode: file mode. */
export function seqpacketListen(
  path: string,
  mode: number,
  maxPacket: number,
  onConnection: (connection: Seqpacket) => SeqpacketHandlers,
): { close(): void };
export function seqpacketConnect(path: string, maxPacket: number, handlers: SeqpacketHandlers): Seqpacket;

// ---- load of the benchmark: threads that do nothing else, no Node in the data path
export interface EchoServer {
  /**
   * Listens in that netns (options as of netnsSocket, with bind and listen) and echoes; a connection whose first byte is 'S' is
   * only read. @returns the listener's number
   */
  listen(netnsFd: number, options: SocketOptions): number;
  /** Once. Open connections go on, and so do the counts. */
  unlisten(listener: number): void;
  /** connections accepted, and bytes received, of one listener so far */
  counts(listener: number): { accepted: number; bytes: number };
  /** Ends threads and listeners; at the end. */
  close(): void;
}
export function echoServer(threads: number): EchoServer;
export interface LoadOrder {
  /** connect, one byte there and back, close; round trips of `bytes` on kept connections; as many bytes as go */
  mode: 'connections' | 'round-trips' | 'bulk';
  address: string;
  port: number;
  /** each with one connection at a time */
  threads: number;
  warmMs: number;
  measureMs: number;
  bytes: number;
  /** files whose text is wanted as it was when measuring began and ended */
  snapshots: string[];
}
export interface LoadResult {
  /** measured time by this process's own clock */
  seconds: number;
  /** within that time; all…: warm-up and end included */
  operations: number;
  allOperations: number;
  bytes: number;
  allBytes: number;
  /** established, in all */
  connections: number;
  /** microseconds of one operation, to 0.4 % */
  p50: number;
  p99: number;
  p999: number;
  /** context switches of this process within the measured time */
  switches: number;
  /** how often, by name of errno; "EOF": the peer ended it. In all. */
  errors: Record<string, number>;
  /** of `snapshots`, "" for what could not be read */
  before: string[];
  after: string[];
}
/** Load from this process's own netns. Rejects when threads cannot be started; what connections meet is counted. */
export function loadRun(order: LoadOrder): Promise<LoadResult>;

// ---- small ones
export function statfsType(path: string): bigint;
export function mount(source: string, target: string, type: string, flags: number): void;
export function unmount(target: string): void;
/** inode (= cgroup id) of a cgroup v2 directory, as bpf_get_current_cgroup_id sees it (name_to_handle_at). */
export function cgroupId(path: string): bigint;
export function closeFd(fd: number): void;
