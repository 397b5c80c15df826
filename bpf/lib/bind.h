/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* bind(2) of a TCP port in an enrolled netns: the app's bind fix, and the tag that proves the tunnel's listeners. */
#ifndef CULVERT_LIB_BIND_H
#define CULVERT_LIB_BIND_H

#include "accessors.h"
#include "counters.h"
#include "tunnel.h"

/*
 * SO_REUSEADDR lets the app bind a port while captured connections to any remote port of that number are open or in TIME_WAIT:
 * their sockets keep that port. Two listeners on one port are refused as before.
 */
static __always_inline void on_bind(struct bpf_sock_addr *ctx)
{
	__u32 one = 1, port = bpf_ntohs(user_port(ctx));
	struct bpf_sock *sk = ctx->sk;
	struct pod *pod;
	__u64 cookie;

	if (!sk || FIELD(ctx, protocol) != IPPROTO_TCP || !port)
		return;
	cookie = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&pods, &cookie);
	if (!pod)
		return;
	if (is_tunnel_port(port) && is_tunnel_task(pod))
		tag_tunnel(pod, sk);
	if (have_bind_setsockopt && !bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)))
		count(cookie, MISC_BIND_REUSE);
}

#endif
