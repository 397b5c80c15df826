/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Wire numbers of Istio's ambient mode, and the datapath's own times. Userspace reads them from BTF enums. */
#ifndef CULVERT_ABI_LIMITS_H
#define CULVERT_ABI_LIMITS_H

enum wire {
	MARK_MASK = 0xfff,
	MARK_TUNNEL = 0x539, /* on ztunnel's own sockets */
	MARK_LOCAL = 0x111, /* "deliver locally", by rule and table 100 */
	PORT_OUTBOUND = 15001,
	PORT_INBOUND = 15006,
	PORT_HBONE = 15008,
	PORT_DNS = 15053,
	PORT_TRIAL = 15002, /* reserved by Istio and unused: where the agent's trial connections go */
	ROUTE_TABLE = 100,
	RULE_PREF = 32764,
	RULE_PREF_PROHIBIT = 32765,
	LISTENER_SLOTS = 4,
	CGROUP_LEVELS = 16, /* how deep kubelet's cgroup may lie */
};

/* Ages after which an entry of `inner` or `exempt` no longer counts. */
enum age {
	INNER_MS = 10000, /* ztunnel's connect timeout */
	EXEMPT_MS = 180000, /* above 127 s, the last SYN retransmission */
};

#define INNER_NS (INNER_MS * 1000000ull)
#define EXEMPT_NS (EXEMPT_MS * 1000000ull)

/* Default sizes of the maps, for 500 pods with room to spare; the loader overrides them from the configuration. */
enum size {
	SIZE_PODS = 1024,
	SIZE_OWN = 16384,
	SIZE_LISTENERS = 16384, /* pods x 4 ports x 4 slots */
	SIZE_GENERATION = 4096, /* pods x 4 ports */
	SIZE_INNER = 65536,
	SIZE_EXEMPT = 16384,
	SIZE_POD_BY_ADDR = 4096,
	SIZE_COUNTERS = 32768,
	SIZE_EVENTS = 1 << 20, /* bytes: 14,500 events */
	SIZE_TUNNELS = 256,
	SIZE_KUBELETS = 64,
	SIZE_TRIALS = 4096,
	SIZE_NODE_SOURCES = 4096,
};

#endif
