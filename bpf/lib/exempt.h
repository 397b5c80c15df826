/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Probe exemption: a connection of a node process (kubelet) to a pod of this node passes the tunnel by, as its exact tuple.
 * Source and port are final here, before the SYN leaves. Forwarded, NodePort and ClusterIP traffic has no socket in the
 * node's netns with the pod's address, and is never exempt. Nor is a node process that asks for the ClusterIP: at this point
 * its destination is that address.
 */
#ifndef CULVERT_LIB_EXEMPT_H
#define CULVERT_LIB_EXEMPT_H

#include "accessors.h"
#include "counters.h"
#include "config.h"

/* connect(2) of TCP, anywhere on the machine. */
static __always_inline void on_node_connect(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tuple t = {};
	__u64 *cookie, *pod, now;

	if (!node_netns || !have_sockops_cookie || !sk)
		return;
	if (bpf_get_netns_cookie(ctx) != node_netns || !sockops_tuple(ctx, &t))
		return;
	cookie = bpf_map_lookup_elem(&pod_by_addr, &t.dst);
	if (!cookie)
		return;
	t.cookie = *cookie;
	now = bpf_ktime_get_ns();
	pod = bpf_sk_storage_get(&host_sock, sk, NULL, kubelet_only ? 0 : BPF_SK_STORAGE_GET_F_CREATE);
	if (kubelet_only && !pod)
		return; /* not tagged by the connect hook */
	if (!pod || bpf_map_update_elem(&exempt, &t, &now, BPF_ANY)) {
		count(t.cookie, MISC_MAP_FULL);
		return;
	}
	*pod = t.cookie;
	bpf_sock_ops_cb_flags_set(ctx, FIELD(ctx, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG);
	count(t.cookie, MISC_EXEMPT_ADDED);
}

/* A socket that asked for state callbacks closes. */
static __always_inline void on_node_close(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tuple t = {};
	__u64 *cookie;

	if (!node_netns || !sk)
		return;
	cookie = bpf_sk_storage_get(&host_sock, sk, NULL, 0);
	if (!cookie || !sockops_tuple(ctx, &t))
		return;
	t.cookie = *cookie;
	if (bpf_map_delete_elem(&exempt, &t))
		return;
	/* a pod that has left must get no counter again that nobody would delete */
	if (bpf_map_lookup_elem(&pods, &t.cookie))
		count(t.cookie, MISC_EXEMPT_DELETED);
}

#endif
