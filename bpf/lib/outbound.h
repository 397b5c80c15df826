/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The outbound decision of connect and sendmsg: mark, do not rewrite. A marked socket's packets are delivered locally, where
 * sk_lookup hands them to the tunnel, which sees the destination the app asked for. One body for v4, v6 and v4-mapped.
 */
#ifndef CULVERT_LIB_OUTBOUND_H
#define CULVERT_LIB_OUTBOUND_H

#include "accessors.h"
#include "address.h"
#include "counters.h"
#include "dns.h"
#include "kubelet.h"
#include "listeners.h"
#include "tunnel.h"

#define EINVAL 22
#define ENOBUFS 105
#define ECONNREFUSED 111
#define EHOSTUNREACH 113
#define EPERM 1

enum hook { HOOK_CONNECT, HOOK_SENDMSG };

static __always_inline __u32 mark_local(struct bpf_sock_addr *ctx, __u32 mark, __u32 reason)
{
	return set_mark(ctx, (mark & ~MARK_MASK) | MARK_LOCAL) ? OUT_DROP_MARK : reason;
}

/*
 * A connect of the tunnel itself. Towards the app it must carry the local mark instead of the tunnel's, so that the app's
 * accepted socket inherits that one and answers stay in the pod.
 */
static __always_inline __u32 decide_tunnel(struct bpf_sock_addr *ctx, const struct pod *pod, struct bpf_sock *sk,
					   struct tuple *t, __u32 mark)
{
	__u64 now;

	/* the app's accepted socket would inherit the tunnel's mark */
	if (is_loopback(&t->dst))
		return set_mark(ctx, mark & ~MARK_MASK) ? OUT_DROP_MARK : OUT_PASS_TUNNEL;

	/*
	 * The tunnel binds a foreign source only to play the client of an inbound connection, and before it connects: the
	 * whole tuple is known. Told by the source, never by the destination: with a stale address map that would loop.
	 */
	t->src = bound_ip(sk);
	t->sport = bound_port(sk);
	if (!is_unspecified(&t->src) && !is_own(t->cookie, &t->src)) {
		now = bpf_ktime_get_ns();
		if (bpf_map_update_elem(&inner, t, &now, BPF_ANY))
			return OUT_DROP_MAP;
		return mark_local(ctx, mark, OUT_PASS_INNER);
	}
	if (t->dport != bpf_htons(PORT_HBONE) && is_own(t->cookie, &t->dst))
		return mark_local(ctx, mark, OUT_PASS_TUNNEL);
	return tag_tunnel(pod, sk) ? OUT_PASS_TUNNEL : OUT_DROP_MAP;
}

/* Captures a TCP connect of the app, or refuses it now: an RST to a captured SYN cannot be routed back, it would hang. */
static __always_inline __u32 capture(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct tuple *t, __u32 mark)
{
	struct addr source = bound_ip(sk);

	if (FIELD(sk, bound_dev_if) > 1) /* lo is 1 in every netns */
		return OUT_DROP_DEVICE;
	/* sk_lookup would take a foreign source for a client from outside, and no answer would find its way back */
	if (is_loopback(&source) || (!is_unspecified(&source) && !is_own(t->cookie, &source)))
		return OUT_DROP_SOURCE;
	if (!is_listening(t->cookie, PORT_OUTBOUND))
		return OUT_DROP_NO_TUNNEL;
	return mark_local(ctx, mark, OUT_REDIRECT_TUNNEL);
}

/*
 * The order of these rules is the contract.
 * @t: dst and dport given; cookie is filled in, src and sport where the tunnel bound them
 */
static __always_inline __u32 decide_outbound(struct bpf_sock_addr *ctx, struct tuple *t, enum hook hook, __u32 protocol)
{
	bool tcp = hook == HOOK_CONNECT && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
	bool dns = t->dport == bpf_htons(53);
	struct bpf_sock *sk = ctx->sk;
	struct pod *pod;
	__u32 mark;

	/* neither counts, so the cheap test comes before the lookup: sendmsg sees every datagram of the machine */
	if (!sk || (!tcp && !(protocol == IPPROTO_UDP && dns)))
		return REASON_NONE;
	t->cookie = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&pods, &t->cookie);
	if (!pod) {
		if (tcp)
			tag_kubelet(sk, t->cookie);
		return REASON_NONE;
	}

	mark = FIELD(sk, mark);
	if (has_tunnel_mark(mark)) {
		if (is_tunnel_task(pod)) {
			if (hook != HOOK_CONNECT || protocol != IPPROTO_TCP)
				return OUT_PASS_TUNNEL; /* its DNS forwarder above all */
			return decide_tunnel(ctx, pod, sk, t, mark);
		}
		report(t, MISC_FALSE_TUNNEL, protocol); /* goes on as any app's */
	}

	if (pod->state != POD_ACTIVE)
		return OUT_PASS_INACTIVE;
	if (is_loopback(&t->dst) || is_unspecified(&t->dst))
		return OUT_PASS_LOOPBACK;
	if (is_own(t->cookie, &t->dst))
		return OUT_PASS_OWN;
	if (is_trusted_probe(&t->dst))
		return OUT_PASS_PROBE;
	if (dns && is_dns_captured(t->cookie, pod))
		return capture_dns(sk, t, tcp);
	if (!tcp)
		return OUT_PASS_DNS_OFF;
	return capture(ctx, sk, t, mark);
}

static __always_inline __u32 outbound(struct bpf_sock_addr *ctx, struct tuple *t, enum hook hook)
{
	__u32 protocol = FIELD(ctx, protocol);
	__u32 reason = decide_outbound(ctx, t, hook, protocol);

	report(t, reason, protocol);
	return reason;
}

/* The errno the app sees for a refusal, 0 for anything else. */
static __always_inline int errno_of(__u32 reason)
{
	switch (reason) {
	case OUT_DROP_NO_TUNNEL:
	case OUT_DROP_DNS_NO_TUNNEL:
		return ECONNREFUSED;
	case OUT_DROP_DEVICE:
		return EHOSTUNREACH;
	case OUT_DROP_SOURCE:
		return EINVAL;
	case OUT_DROP_MARK:
		return EPERM;
	case OUT_DROP_MAP:
		return ENOBUFS;
	default:
		return 0;
	}
}

/* What a connect or sendmsg hook returns: 1 allows; 0 refuses, with EPERM unless another errno was set. */
static __always_inline int verdict_of(__u32 reason)
{
	int error = errno_of(reason);

	if (!error)
		return 1;
	if (have_retval)
		bpf_set_retval(-error);
	return 0;
}

#endif
