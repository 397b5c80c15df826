/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Keys and values of every map, shared with userspace (TypeScript's side is generated from BTF, never copied by hand).
 * Frozen from the first release: a program of one version reads maps filled by another while an upgrade swaps links one by
 * one.  New data goes into new maps; `reserved` is written as zero and not interpreted.
 * Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d.  Ports are in network order unless named otherwise.
 */
#ifndef CULVERT_ABI_TYPES_H
#define CULVERT_ABI_TYPES_H

struct addr {
	__u32 w[4];
};

/* Life of an enrolled netns; ACTIVE is the commit point of enrolment. */
enum pod_state {
	POD_PREPARED = 1, /* only the tunnel's own sockets are handled */
	POD_ACTIVE = 2,
	POD_DRAINING = 3, /* new connections direct, captured ones and 15008 go on */
};

enum pod_flag {
	POD_DNS = 1, /* the pod wants DNS capture */
	POD_INGRESS_MODE = 2, /* no inbound capture except 15008 (ambient.istio.io/bypass-inbound-capture) */
	POD_MARK_ONLY = 4, /* mark 0x539 alone proves the tunnel (culvert redirect on, from a user namespace) */
	POD_NODE_SOURCE = 8, /* the node's connections arrive with another source: `node_sources` has it */
};

struct pod {
	__u32 state; /* enum pod_state */
	__u32 flags; /* enum pod_flag */
	__u64 reserved[3];
};

/* Who a netns cookie is, for readers of the pins while the agent is down and for the agent after a restart. Text is NUL-padded. */
struct identity {
	char uid[64];
	char namespace[64];
	char name[256];
	char netns[128]; /* path of the netns at enrolment, "" when only an fd was given */
};

struct own_key {
	__u64 cookie;
	struct addr addr;
};

struct listener_key {
	__u64 cookie;
	__u32 port; /* host order */
	__u32 slot; /* generation mod 4 */
};

struct generation_key {
	__u64 cookie;
	__u32 port; /* host order */
	__u32 reserved;
};

struct tuple {
	__u64 cookie;
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u32 reserved;
};

struct resolver {
	struct addr addr;
	__be16 port;
	__u16 family; /* 4 or 6, as the app's socket sees it */
	__u32 reserved;
};

/* With which source a trial connection arrived. */
struct arrival {
	struct addr src;
	__be16 sport;
	__u16 reserved;
	__u32 seen; /* SYNs so far; src and sport are the last one's */
};

struct counter_key {
	__u64 cookie;
	__u32 reason; /* enum reason */
	__u32 reserved;
};

enum event_class {
	EVENT_REFUSED = 1, /* reasons *_DROP_* and refused registrations */
	EVENT_REDIRECTED = 2, /* reasons *_REDIRECT_*: one per connection, costs a ring buffer write */
	EVENT_PASSED = 4, /* reasons *_PASS_* */
};

/* Families whose probe address of Istio's can be believed: only istio-cni's host rule puts it there. */
enum istio_probes {
	ISTIO_PROBES_V4 = 1,
	ISTIO_PROBES_V6 = 2,
};

struct settings {
	__u32 event_mask; /* enum event_class, 0 means EVENT_REFUSED; the agent widens it while somebody watches */
	__u32 istio_probes; /* enum istio_probes; 0, the default: whoever uses those addresses is a stranger */
	__u32 reserved[6];
};

/* Of all layouts here and of what the values mean; raised when they change incompatibly. */
enum abi {
	CULVERT_ABI = 1,
};

struct owner {
	__u64 instance;
	__u32 abi; /* enum abi */
	__u32 reserved;
	char version[48];
};

struct event {
	__u64 time; /* ns, CLOCK_MONOTONIC */
	__u64 cookie;
	struct addr src; /* zero when the hook does not know it */
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u32 reason; /* enum reason */
	__u32 protocol; /* IPPROTO_* */
	__u32 reserved;
};

/* A size that changes is a layout that changes: bump CULVERT_ABI and read the comment at the top. */
_Static_assert(sizeof(struct pod) == 32, "struct pod");
_Static_assert(sizeof(struct identity) == 512, "struct identity");
_Static_assert(sizeof(struct own_key) == 24, "struct own_key");
_Static_assert(sizeof(struct listener_key) == 16, "struct listener_key");
_Static_assert(sizeof(struct generation_key) == 16, "struct generation_key");
_Static_assert(sizeof(struct tuple) == 48, "struct tuple");
_Static_assert(sizeof(struct resolver) == 24, "struct resolver");
_Static_assert(sizeof(struct arrival) == 24, "struct arrival");
_Static_assert(sizeof(struct counter_key) == 16, "struct counter_key");
_Static_assert(sizeof(struct settings) == 32, "struct settings");
_Static_assert(sizeof(struct owner) == 64, "struct owner");
_Static_assert(sizeof(struct event) == 64, "struct event");

#endif
