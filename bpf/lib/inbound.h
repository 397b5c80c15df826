/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which listener a SYN in an enrolled netns gets. Runs for the app's captured connections, which are delivered locally, and
 * for those from outside. Stray packets of dead connections come here, too: these counts are no connection counts.
 */
#ifndef CULVERT_LIB_INBOUND_H
#define CULVERT_LIB_INBOUND_H

#include "accessors.h"
#include "address.h"
#include "counters.h"
#include "listeners.h"

static __always_inline bool is_younger(const __u64 *time, __u64 ns)
{
	return time && bpf_ktime_get_ns() - *time < ns;
}

/* What is to become of a SYN: port of the tunnel whose listener gets it, or 0: it goes its own way. */
struct choice {
	__u32 port;
	__u32 reason; /* enum reason, when that succeeds */
};

static __always_inline struct choice its_own_way(__u32 reason)
{
	return (struct choice){ .port = 0, .reason = reason };
}

static __always_inline struct choice to_tunnel(__u32 port, __u32 reason)
{
	return (struct choice){ .port = port, .reason = reason };
}

/* NO_REUSEPORT: the reuseport group would hand new connections to a tunnel that drains, or to an app's listener beside it. */
static __always_inline __u32 assign(struct bpf_sk_lookup *ctx, const struct tuple *t, struct choice choice)
{
	bool outbound = choice.port == PORT_OUTBOUND;
	struct bpf_sock *sk = newest_listener(t->cookie, choice.port);
	long error;

	if (!sk)
		return outbound ? OUT_DROP_LOOKUP : IN_DROP_NO_TUNNEL;
	error = bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(sk);
	if (error)
		return outbound ? OUT_DROP_ASSIGN : IN_DROP_ASSIGN;
	return choice.reason;
}

/*
 * A connection of the agent's own, made to learn with which source the node's connections arrive here. Nobody else knows of it,
 * and its port is nobody's: it is refused, and neither app nor tunnel sees it.
 */
static __always_inline bool note_trial(const struct tuple *t)
{
	struct own_key key = { .cookie = t->cookie, .addr = t->dst };
	struct arrival *arrival = bpf_map_lookup_elem(&trials, &key);

	if (!arrival)
		return false;
	arrival->src = t->src;
	arrival->sport = t->sport;
	__sync_fetch_and_add(&arrival->seen, 1); /* more than the agent sent: somebody forges */
	return true;
}

/* An address that stands for the node in this netns, where masquerading spoils its exact tuples. */
static __always_inline bool is_node_source(const struct tuple *t)
{
	struct own_key key = { .cookie = t->cookie, .addr = t->src };

	return bpf_map_lookup_elem(&node_sources, &key) != NULL;
}

/* A SYN whose source is not ours. */
static __always_inline struct choice decide_foreign(const struct tuple *t)
{
	struct pod *pod = bpf_map_lookup_elem(&pods, &t->cookie);

	if (t->dport == bpf_htons(PORT_TRIAL) && note_trial(t))
		return its_own_way(MISC_TRIAL);
	/*
	 * Nobody outside may reach the outbound listener by its own port, not even a probe: it carries MARK_LOCAL, and its
	 * answers would never leave the pod. The inbound one ends such a connection as a call of the tunnel to itself.
	 */
	if (pod && t->dport == bpf_htons(PORT_OUTBOUND))
		return to_tunnel(PORT_INBOUND, IN_REDIRECT_TUNNEL);
	/* the kernel's own lookup might find another listener of the pod on that port; without the tunnel's it refuses */
	if (pod && pod->state == POD_DRAINING && t->dport == bpf_htons(PORT_HBONE))
		return to_tunnel(PORT_HBONE, IN_PASS_HBONE);
	if (!pod || pod->state != POD_ACTIVE)
		return its_own_way(IN_PASS_INACTIVE);
	if (is_younger(bpf_map_lookup_elem(&inner, t), INNER_NS))
		return its_own_way(IN_PASS_INNER);
	if (is_younger(bpf_map_lookup_elem(&exempt, t), EXEMPT_NS))
		return its_own_way(IN_PASS_EXEMPT);
	if (t->dport == bpf_htons(PORT_HBONE))
		return to_tunnel(PORT_HBONE, IN_REDIRECT_HBONE);
	if ((pod->flags & POD_NODE_SOURCE) && is_node_source(t))
		return its_own_way(IN_PASS_NODE);
	if (is_trusted_probe(&t->src))
		return its_own_way(IN_PASS_PROBE);
	if (pod->flags & POD_INGRESS_MODE)
		return its_own_way(IN_PASS_INGRESS);
	return to_tunnel(PORT_INBOUND, IN_REDIRECT_TUNNEL);
}

/*
 * The order of these rules is the contract. "Outbound" is told by the source being ours, never by the destination being
 * unknown: a stale address map would hand inbound SYNs to 15001. The device is no help: for a connection to an own address
 * it is eth0, not lo.
 */
static __always_inline struct choice choose(const struct tuple *t)
{
	if (is_loopback(&t->src) || is_loopback(&t->dst))
		return its_own_way(REASON_NONE);
	if (is_same(&t->src, &t->dst))
		return its_own_way(IN_PASS_SELF);
	if (!is_own(t->cookie, &t->src))
		return decide_foreign(t);
	if (is_own(t->cookie, &t->dst))
		return its_own_way(IN_PASS_SELF);
	/* local only because of its mark. In every state: a captured SYN, also sent again, must not reach the app's listener */
	return to_tunnel(PORT_OUTBOUND, OUT_REDIRECT_ACCEPTED);
}

static __always_inline __u32 decide_lookup(struct bpf_sk_lookup *ctx, const struct tuple *t)
{
	struct choice choice = choose(t);

	if (!choice.port)
		return choice.reason;
	/* as any_reason of sk_lookup.bpf.c: the verifier is to walk through what follows once, not once per port */
	choice.port ^= FIELD(ctx, family) >> 16;
	return assign(ctx, t, choice);
}

static __always_inline bool is_lookup_drop(__u32 reason)
{
	return reason == OUT_DROP_LOOKUP || reason == OUT_DROP_ASSIGN || reason == IN_DROP_NO_TUNNEL ||
	       reason == IN_DROP_ASSIGN || reason == MISC_TRIAL;
}

#endif
