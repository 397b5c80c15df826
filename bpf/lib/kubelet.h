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
 * connect(2) of TCP in a netns that is not enrolled. Wherever to: a task may be preempted between here and the callback for longer than
 * a pod takes to join, and its connection must be exempt then. (An MPTCP socket is another one by the time of the callback: it is not.)
 */
static __always_inline void tag_kubelet(struct bpf_sock *sk, __u64 cookie)
{
	if (kubelet_only && cookie == node_netns && is_kubelet_task())
		bpf_sk_storage_get(&host_sock, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
}

#endif
