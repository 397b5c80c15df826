/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Fields of the hooks' contexts as addresses and ports. The only file that knows the contexts' byte orders. */
#ifndef CULVERT_LIB_ACCESSORS_H
#define CULVERT_LIB_ACCESSORS_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "../abi/types.h"

/* Not in the uapi headers that go together with linux/bpf.h. */
#define AF_INET 2
#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_REUSEADDR 2
#define SO_MARK 36
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/*
 * A field of a context or socket, read here, once and in full width. Without the barrier clang merges the reads of two
 * branches into one through a computed pointer, which the verifier rejects ("dereference of modified ctx ptr").
 */
#define FIELD(pointer, name)                                                                                           \
	({                                                                                                             \
		__u32 field_ = (pointer)->name;                                                                        \
		asm volatile("" : "+r"(field_));                                                                       \
		field_;                                                                                                \
	})

#define FIELD_IP6(pointer, name)                                                                                       \
	((struct addr){ { FIELD(pointer, name[0]), FIELD(pointer, name[1]), FIELD(pointer, name[2]),                   \
			  FIELD(pointer, name[3]) } })

#define FIELD_IP4(pointer, name) ((struct addr){ { 0, 0, bpf_htonl(0xffff), FIELD(pointer, name) } })

/* connect, sendmsg, bind: the address and port the task gave. */
static __always_inline struct addr user_ip4(struct bpf_sock_addr *ctx)
{
	return FIELD_IP4(ctx, user_ip4);
}

static __always_inline struct addr user_ip6(struct bpf_sock_addr *ctx)
{
	return FIELD_IP6(ctx, user_ip6);
}

static __always_inline __be16 user_port(struct bpf_sock_addr *ctx)
{
	return (__be16)FIELD(ctx, user_port);
}

/* The address a socket is bound to; unspecified when it is not. */
static __always_inline struct addr bound_ip(struct bpf_sock *sk)
{
	if (FIELD(sk, family) == AF_INET)
		return FIELD_IP4(sk, src_ip4);
	return FIELD_IP6(sk, src_ip6);
}

static __always_inline __be16 bound_port(struct bpf_sock *sk)
{
	return bpf_htons((__u16)FIELD(sk, src_port));
}

/* Both ends of the connection that a sock_ops callback is about, local end as source. False: not IP. */
static __always_inline bool sockops_tuple(struct bpf_sock_ops *ctx, struct tuple *t)
{
	__u32 family = FIELD(ctx, family);

	if (family == AF_INET) {
		t->src = FIELD_IP4(ctx, local_ip4);
		t->dst = FIELD_IP4(ctx, remote_ip4);
	} else if (family == AF_INET6) {
		t->src = FIELD_IP6(ctx, local_ip6);
		t->dst = FIELD_IP6(ctx, remote_ip6);
	} else {
		return false;
	}
	/* local_port is in host order; remote_port is a 32-bit field in network order */
	t->sport = bpf_htons((__u16)FIELD(ctx, local_port));
	t->dport = bpf_htons((__u16)bpf_ntohl(FIELD(ctx, remote_port)));
	return true;
}

/* Both ends of the packet that looks for its listener, remote end as source. */
static __always_inline void lookup_tuple(struct bpf_sk_lookup *ctx, struct tuple *t)
{
	if (FIELD(ctx, family) == AF_INET) {
		t->src = FIELD_IP4(ctx, remote_ip4);
		t->dst = FIELD_IP4(ctx, local_ip4);
	} else {
		t->src = FIELD_IP6(ctx, remote_ip6);
		t->dst = FIELD_IP6(ctx, local_ip6);
	}
	/* remote_port has been 16 bits wide since 5.18, 32 before; its first two bytes are the port in network order in both */
	t->sport = (__be16)FIELD(ctx, remote_port);
	t->dport = bpf_htons((__u16)FIELD(ctx, local_port));
}

static __always_inline int set_mark(struct bpf_sock_addr *ctx, __u32 mark)
{
	return bpf_setsockopt(ctx, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
}

#endif
