/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Who is the tunnel. Its mark alone proves nothing: CAP_NET_RAW, which containers have by default, is enough to set it. So
 * the task's cgroup must be one of the agent's ZDS peers, too.
 */
#ifndef CULVERT_LIB_TUNNEL_H
#define CULVERT_LIB_TUNNEL_H

#include <stdbool.h>
#include "config.h"
#include "maps.h"

static __always_inline bool has_tunnel_mark(__u32 mark)
{
	return (mark & MARK_MASK) == MARK_TUNNEL;
}

static __always_inline bool is_tunnel_port(__u32 port)
{
	return port == PORT_OUTBOUND || port == PORT_INBOUND || port == PORT_HBONE || port == PORT_DNS;
}

/* The mark is proof enough in this netns. */
static __always_inline bool is_mark_enough(const struct pod *pod)
{
	return !tunnel_check || (pod->flags & POD_MARK_ONLY);
}

/* The calling task is the tunnel's. Only in hooks that run in the caller's context: connect, sendmsg, bind. */
static __always_inline bool is_tunnel_task(const struct pod *pod)
{
	__u64 id;

	if (is_mark_enough(pod))
		return true;
	id = bpf_get_current_cgroup_id();
	return bpf_map_lookup_elem(&tunnels, &id) != NULL;
}

/* Remembers a socket as the tunnel's, for the callbacks that cannot ask for the task. False: no memory. */
static __always_inline bool tag_tunnel(const struct pod *pod, struct bpf_sock *sk)
{
	return is_mark_enough(pod) || bpf_sk_storage_get(&tunnel_tag, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
}

/* A socket with the tunnel's mark is the tunnel's. In any hook. */
static __always_inline bool is_tagged(const struct pod *pod, struct bpf_sock *sk)
{
	return is_mark_enough(pod) || bpf_sk_storage_get(&tunnel_tag, sk, NULL, 0);
}

#endif
