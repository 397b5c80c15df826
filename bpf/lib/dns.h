/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * DNS capture: queries to port 53 go to the tunnel's resolver on the loopback of the same family. The app goes on seeing the
 * resolver it asked, as source of the answer and as peer of a connected socket.
 */
#ifndef CULVERT_LIB_DNS_H
#define CULVERT_LIB_DNS_H

#include "accessors.h"
#include "address.h"
#include "listeners.h"

#define LOOPBACK4 bpf_htonl(0x7f000001)

/* The pod wants it, and the tunnel does it: a 15053 listener registered here once. */
static __always_inline bool is_dns_captured(__u64 cookie, const struct pod *pod)
{
	return (pod->flags & POD_DNS) && was_registered(cookie, PORT_DNS);
}

/* Remembers the resolver asked. Its listener being gone refuses the query: names must not leak past a tunnel that died. */
static __always_inline __u32 capture_dns(struct bpf_sock *sk, const struct tuple *t, bool tcp)
{
	struct resolver *asked;

	if (!is_listening(t->cookie, PORT_DNS))
		return OUT_DROP_DNS_NO_TUNNEL;
	asked = bpf_sk_storage_get(&dns_dst, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!asked)
		return OUT_DROP_MAP;
	asked->addr = t->dst;
	asked->port = t->dport;
	asked->family = is_ipv4(&t->dst) ? 4 : 6;
	return tcp ? OUT_REDIRECT_DNS_TCP : OUT_REDIRECT_DNS_UDP;
}

static __always_inline bool is_dns_redirect(__u32 reason)
{
	return reason == OUT_REDIRECT_DNS_UDP || reason == OUT_REDIRECT_DNS_TCP;
}

static __always_inline void to_tunnel4(struct bpf_sock_addr *ctx)
{
	ctx->user_ip4 = LOOPBACK4;
	ctx->user_port = bpf_htons(PORT_DNS);
}

/* ::1, or ::ffff:127.0.0.1 for a mapped destination: the kernel refuses a change of family. */
static __always_inline void to_tunnel6(struct bpf_sock_addr *ctx, bool mapped)
{
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = mapped ? bpf_htonl(0xffff) : 0;
	ctx->user_ip6[3] = mapped ? LOOPBACK4 : bpf_htonl(1);
	ctx->user_port = bpf_htons(PORT_DNS);
}

/* The resolver asked on this socket, if the peer in the context is where the tunnel's resolver listens. */
static __always_inline struct resolver *asked_of(struct bpf_sock_addr *ctx, const struct addr *peer)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk || user_port(ctx) != bpf_htons(PORT_DNS) || !is_loopback(peer))
		return NULL;
	return bpf_sk_storage_get(&dns_dst, sk, NULL, 0);
}

static __always_inline void restore_peer4(struct bpf_sock_addr *ctx)
{
	struct addr peer = user_ip4(ctx);
	struct resolver *asked = asked_of(ctx, &peer);

	if (!asked || asked->family != 4)
		return;
	ctx->user_ip4 = asked->addr.w[3];
	ctx->user_port = asked->port;
}

static __always_inline void restore_peer6(struct bpf_sock_addr *ctx)
{
	struct addr peer = user_ip6(ctx);
	struct resolver *asked = asked_of(ctx, &peer);

	if (!asked)
		return;
	ctx->user_ip6[0] = asked->addr.w[0];
	ctx->user_ip6[1] = asked->addr.w[1];
	ctx->user_ip6[2] = asked->addr.w[2];
	ctx->user_ip6[3] = asked->addr.w[3];
	ctx->user_port = asked->port;
}

#endif
