/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The tunnel's listeners in each netns. A new tunnel's listener gets the next generation and all new connections; when it
 * dies, the newest that still lives is used again. The kernel removes dead sockets from the map by itself.
 */
#ifndef CULVERT_LIB_LISTENERS_H
#define CULVERT_LIB_LISTENERS_H

#include "accessors.h"
#include "counters.h"
#include "tunnel.h"

/* A listener was registered for this port once, though it may be gone. */
static __always_inline bool was_registered(__u64 cookie, __u32 port)
{
	struct generation_key key = { .cookie = cookie, .port = port };

	return bpf_map_lookup_elem(&generation, &key) != NULL;
}

static __always_inline struct bpf_sock *listener_of(__u64 cookie, __u32 port, __u32 number)
{
	struct listener_key key = { .cookie = cookie, .port = port, .slot = number % LISTENER_SLOTS };

	return bpf_map_lookup_elem(&listeners, &key);
}

/* The newest living listener, to be given back with bpf_sk_release, or NULL. */
static __always_inline struct bpf_sock *newest_listener(__u64 cookie, __u32 port)
{
	struct generation_key key = { .cookie = cookie, .port = port };
	__u32 *newest = bpf_map_lookup_elem(&generation, &key);
	struct bpf_sock *sk;
	__u32 number;

	if (!newest)
		return NULL;
	number = *newest;
	sk = listener_of(cookie, port, number);
	if (!sk)
		sk = listener_of(cookie, port, number - 1);
	if (!sk)
		sk = listener_of(cookie, port, number - 2);
	if (!sk)
		sk = listener_of(cookie, port, number - 3);
	return sk;
}

static __always_inline bool is_listening(__u64 cookie, __u32 port)
{
	struct bpf_sock *sk = newest_listener(cookie, port);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* The socket first, its generation after: who reads in between gets the listener before. */
static __always_inline __u32 add_listener(struct bpf_sock_ops *ctx, __u64 cookie, __u32 port)
{
	struct generation_key generation_key = { .cookie = cookie, .port = port };
	__u32 *old = bpf_map_lookup_elem(&generation, &generation_key);
	__u32 number = old ? *old + 1 : 1;
	struct listener_key key = { .cookie = cookie, .port = port, .slot = number % LISTENER_SLOTS };

	if (bpf_sock_hash_update(ctx, &listeners, &key, BPF_ANY))
		return REG_FAILED;
	if (bpf_map_update_elem(&generation, &generation_key, &number, BPF_ANY))
		return REG_FAILED;
	return REG_LISTENER;
}

/*
 * Options of the tunnel's own listener.
 * SO_REUSEADDR: captured sockets keep the port the app sees and sit in its bind bucket; without the option on both sides the
 * app's bind of that port fails with EADDRINUSE. (sock_ops may set it since 6.1; before, the agent does through the fd.)
 * Mark 0x111 on 15001: sockets accepted there inherit it, and what they send must stay in the pod; with 0x539 an RST for a
 * client that is gone leaves by eth0, and the tunnel's socket hangs in LAST_ACK.
 */
static __always_inline void set_listener_options(struct bpf_sock_ops *ctx, __u32 port, __u32 mark)
{
	__u32 one = 1;

	bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (port == PORT_OUTBOUND) {
		mark = (mark & ~MARK_MASK) | MARK_LOCAL;
		bpf_setsockopt(ctx, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
	}
}

/* listen(2) in an enrolled netns. */
static __always_inline void on_listen(struct bpf_sock_ops *ctx)
{
	struct tuple t = {};
	struct bpf_sock *sk = ctx->sk;
	struct pod *pod;
	__u32 mark, port, reason;

	if (!have_sockops_cookie || !sk)
		return;
	t.cookie = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&pods, &t.cookie);
	if (!pod)
		return;
	mark = FIELD(sk, mark);
	port = FIELD(ctx, local_port);
	t.dport = bpf_htons((__u16)port);
	if (!is_tunnel_port(port) || !has_tunnel_mark(mark)) {
		/* its mark wins over tcp_fwmark_accept: answers to captured inbound connections would leave by eth0 */
		if (mark && (mark & MARK_MASK) != MARK_LOCAL)
			report(&t, MISC_APP_MARK, IPPROTO_TCP);
		return;
	}
	if (!is_tagged(pod, sk)) {
		report(&t, REG_REFUSED, IPPROTO_TCP);
		return;
	}
	reason = add_listener(ctx, t.cookie, port);
	if (reason == REG_LISTENER)
		set_listener_options(ctx, port, mark);
	report(&t, reason, IPPROTO_TCP);
}

#endif
