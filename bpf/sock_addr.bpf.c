// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Hooks on addresses of sockets, attached to the root of cgroup v2: 1 allows, 0 refuses. */
#include "lib/outbound.h"
#include "lib/bind.h"

char _license[] SEC("license") = "GPL";

static __always_inline int outbound4(struct bpf_sock_addr *ctx, enum hook hook)
{
	struct tuple t = { .dst = user_ip4(ctx), .dport = user_port(ctx) };
	__u32 reason = outbound(ctx, &t, hook);

	if (is_dns_redirect(reason))
		to_tunnel4(ctx);
	return verdict_of(reason);
}

static __always_inline int outbound6(struct bpf_sock_addr *ctx, enum hook hook)
{
	struct tuple t = { .dst = user_ip6(ctx), .dport = user_port(ctx) };
	__u32 reason = outbound(ctx, &t, hook);

	if (is_dns_redirect(reason))
		to_tunnel6(ctx, is_ipv4(&t.dst));
	return verdict_of(reason);
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return outbound4(ctx, HOOK_CONNECT);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return outbound6(ctx, HOOK_CONNECT);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return outbound4(ctx, HOOK_SENDMSG);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return outbound6(ctx, HOOK_SENDMSG);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	restore_peer4(ctx);
	return 1;
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	restore_peer6(ctx);
	return 1;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	restore_peer4(ctx);
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	restore_peer6(ctx);
	return 1;
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx)
{
	on_bind(ctx);
	return 1;
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *ctx)
{
	on_bind(ctx);
	return 1;
}
