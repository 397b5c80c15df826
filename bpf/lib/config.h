/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the loader decides between open and load. The kernel sees these as constants and removes the branches that they rule
 * out, so that a program also loads where a helper of such a branch does not exist. Chosen by probing helpers, never by
 * version. Weak, because every object file defines them and the linker keeps one.
 *
 * sk_lookup reads none of them: its instructions are loaded once per pod, without this map.
 */
#ifndef CULVERT_LIB_CONFIG_H
#define CULVERT_LIB_CONFIG_H

#include <linux/types.h>
#include "../abi/limits.h"
#include "../abi/reasons.h"
#include "../abi/types.h"

/* Id of the agent's instance, for whoever finds these programs and asks whose they are. Not read by the programs. */
const volatile __u64 instance __weak = 0;

/* Netns cookie of the node, whose sockets are exempt as probes; 0: no exemption. */
const volatile __u64 node_netns __weak = 0;

/* The tunnel must also be a task of a cgroup in `tunnels`; 0: its mark is enough. */
const volatile __u32 tunnel_check __weak = 1;

/* bpf_set_retval in connect and sendmsg hooks (5.18); without it apps see EPERM instead of the right errno. */
const volatile __u32 have_retval __weak = 1;

/* bpf_setsockopt in bind hooks (5.15); without it captured ports cannot be bound by the app while in use. */
const volatile __u32 have_bind_setsockopt __weak = 1;

/* bpf_get_netns_cookie in sock_ops (5.15); without it listeners are registered by the agent and no probe is exempt by tuple. */
const volatile __u32 have_sockops_cookie __weak = 1;

/* Only sockets that a task below a cgroup of `kubelets` connects are exempt as probes, not those of every process of the node. */
const volatile __u32 kubelet_only __weak = 0;

/* Never read: it carries the enumerators into BTF, from which userspace's layout is generated. */
const volatile union {
	enum wire wire;
	enum age age;
	enum size size;
	enum reason reason;
	enum pod_state pod_state;
	enum pod_flag pod_flag;
	enum event_class event_class;
	enum istio_probes istio_probes;
	enum abi abi;
	struct event event;
} vocabulary __weak = {};

#endif
