/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * connect(2) decides, and a SYN may leave later (TCP_FASTOPEN_CONNECT waits for the first write) or again (the first got no
 * answer). Who may set marks (CAP_NET_RAW, which containers have by default) can have changed the socket's meanwhile: then it
 * is marked again, before the SYN looks for its route.
 */
#ifndef CULVERT_LIB_REMARK_H
#define CULVERT_LIB_REMARK_H

#include "accessors.h"
#include "address.h"
#include "counters.h"
#include "tunnel.h"

static __always_inline void mark_again(struct bpf_sock_ops *ctx, struct tuple *t, __u32 mark)
{
	mark = (mark & ~MARK_MASK) | MARK_LOCAL;
	if (!bpf_setsockopt(ctx, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		report(t, MISC_REMARKED, IPPROTO_TCP);
}

/* connect(2) would let it pass, or has. A deferred connection that was begun before its pod was active is captured. */
static __always_inline bool is_passed(const struct pod *pod, struct bpf_sock *sk, const struct tuple *t, __u32 mark)
{
	if (has_tunnel_mark(mark) && is_tagged(pod, sk))
		return true;
	return is_loopback(&t->dst) || is_unspecified(&t->dst) || is_own(t->cookie, &t->dst) ||
	       is_trusted_probe(&t->dst);
}

/* The first SYN of a connection is about to leave, in any netns. */
static __always_inline void on_pod_connect(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tuple t = {};
	struct pod *pod;
	__u32 mark;

	if (!have_sockops_cookie || !sk)
		return;
	mark = FIELD(sk, mark);
	if ((mark & MARK_MASK) != MARK_LOCAL) {
		t.cookie = bpf_get_netns_cookie(ctx);
		pod = bpf_map_lookup_elem(&pods, &t.cookie);
		if (!pod || pod->state != POD_ACTIVE || !sockops_tuple(ctx, &t) || is_passed(pod, sk, &t, mark))
			return;
		mark_again(ctx, &t, mark);
	}
	bpf_sock_ops_cb_flags_set(ctx, FIELD(ctx, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_RTO_CB_FLAG);
}

/* A timeout of a socket that was captured: what follows is the retransmission. */
static __always_inline void on_pod_timeout(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tuple t = {};
	__u32 mark;

	if (!have_sockops_cookie || !sk || FIELD(ctx, state) != BPF_TCP_SYN_SENT)
		return;
	mark = FIELD(sk, mark);
	if ((mark & MARK_MASK) == MARK_LOCAL || !sockops_tuple(ctx, &t))
		return;
	t.cookie = bpf_get_netns_cookie(ctx);
	if (bpf_map_lookup_elem(&pods, &t.cookie))
		mark_again(ctx, &t, mark);
}

#endif
