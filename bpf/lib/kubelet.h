/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which socket of the node is kubelet's, when only kubelet's are exempt. Told in the connect hooks, which run in the caller's
 * context on every kernel; the callback that knows the tuple can ask for the cgroup only since 6.4.
 */
#ifndef CULVERT_LIB_KUBELET_H
#define CULVERT_LIB_KUBELET_H

#include "config.h"
#include "maps.h"

/* The calling task is in a cgroup of `kubelets` or below one. Levels are counted from the root, which is nobody's. */
static __always_inline bool is_kubelet_task(void)
{
	__u64 id;

	for (int level = 1; level <= CGROUP_LEVELS; level++) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			return false;
		if (bpf_map_lookup_elem(&kubelets, &id))
			return true;
	}
	return false;
}

/*
 * connect(2) of TCP in a netns that is not enrolled. (An MPTCP socket is another one by the time of the callback: not exempt.)
 * @t: dst and cookie given
 */
static __always_inline void tag_kubelet(struct bpf_sock *sk, const struct tuple *t)
{
	if (!kubelet_only || t->cookie != node_netns || !bpf_map_lookup_elem(&pod_by_addr, &t->dst))
		return;
	if (is_kubelet_task())
		bpf_sk_storage_get(&host_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
}

#endif
