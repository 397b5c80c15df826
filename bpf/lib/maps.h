/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * All maps of the datapath. Everything is keyed by netns cookie, so that enrolling a pod is a map write and no cgroup has to
 * be found. Pinned by the agent; layouts are frozen (abi/types.h). Weak, because every object file defines them and the
 * linker keeps one.
 */
#ifndef CULVERT_LIB_MAPS_H
#define CULVERT_LIB_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "../abi/limits.h"
#include "../abi/types.h"

/*
 * The enrolled netns and their state. `active` is the commit point of enrolment.
 * written by: agent; read by: every hook; deleted by: agent, last step of leaving, and when the netns died;
 * when full: the pod's enrolment fails, nothing else.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SIZE_PODS);
	__type(key, __u64);
	__type(value, struct pod);
} pods __weak SEC(".maps");

/*
 * Who a cookie is: what `culvert maps` prints, and what the agent reads back after a restart.
 * written by: agent, before `pods`; read by: userspace only; deleted by: agent, after `pods`;
 * when full: as `pods`, which has the same size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SIZE_PODS);
	__type(key, __u64);
	__type(value, struct identity);
} identity __weak SEC(".maps");

/*
 * Addresses of an enrolled netns. A missing entry is safe (the connection takes the tunnel); an extra one is a bypass.
 * written by: agent, from rtnetlink, removals before additions; read by: connect hooks, sk_lookup;
 * deleted by: agent, on address removal and at leaving; when full: the address counts as foreign, enrolment fails.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SIZE_OWN);
	__type(key, struct own_key);
	__type(value, __u8);
} own __weak SEC(".maps");

/*
 * The tunnel's listeners, up to four generations per port, so that a new tunnel takes over while the old one drains.
 * written by: sockops at listen(2), the agent for listeners that were there before it; read by: connect hooks, sk_lookup;
 * deleted by: the kernel, when the socket dies; when full: REG_FAILED, the pod fails closed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, SIZE_LISTENERS);
	__type(key, struct listener_key);
	__type(value, __u64);
} listeners __weak SEC(".maps");

/*
 * How many listeners a port of a netns has had; the newest sits in slot `generation mod 4` of `listeners`. An entry for 15053
 * says that the tunnel does DNS here.
 * written by: as `listeners`; read by: as `listeners`; deleted by: agent, at leaving and when the netns died;
 * when full: REG_FAILED, every new pod fails closed: hence the agent's sweep.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SIZE_GENERATION);
	__type(key, struct generation_key);
	__type(value, __u32);
} generation __weak SEC(".maps");

/*
 * Connections of the tunnel to the app with the client's address as source: tuple to time in ns. They look like connections
 * from outside; without this entry they would be handed to the tunnel again, for ever.
 * written by: connect hooks; read by: sk_lookup; deleted by: nobody, an entry counts for INNER_MS and LRU takes it;
 * when full: the oldest goes, which has been used by then unless 65536 connects are under way at once.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIZE_INNER);
	__type(key, struct tuple);
	__type(value, __u64);
} inner __weak SEC(".maps");

/*
 * Connections of node processes (kubelet's probes) to pods: tuple with the pod's cookie to time in ns.
 * written by: sockops in the node's netns, before the SYN leaves; read by: sk_lookup;
 * deleted by: sockops when the socket closes, age EXEMPT_MS, LRU; when full: the oldest goes: its SYN has arrived long ago.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIZE_EXEMPT);
	__type(key, struct tuple);
	__type(value, __u64);
} exempt __weak SEC(".maps");

/*
 * Address of an enrolled pod of this node to its netns cookie.
 * written by: agent, first step of enrolment; read by: sockops in the node's netns; deleted by: agent;
 * when full: enrolment fails (probes of that pod would be refused under a strict policy).
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SIZE_POD_BY_ADDR);
	__type(key, struct addr);
	__type(value, __u64);
} pod_by_addr __weak SEC(".maps");

/*
 * How often each reason was met, per netns and CPU.
 * written by: every hook, entry made at first use; read by: userspace; deleted by: agent, at leaving;
 * when full: a reason met for the first time is not counted, traffic is not affected.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SIZE_COUNTERS);
	__type(key, struct counter_key);
	__type(value, __u64);
} counters __weak SEC(".maps");

/*
 * struct event, for whoever watches. Never wakes the reader, who polls.
 * written by: every hook, for the classes in `settings`; read by: agent; when full: the event is lost, MISC_EVENT_LOST.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SIZE_EVENTS);
} events __weak SEC(".maps");

/*
 * Who may claim to be the tunnel: cgroup v2 ids of the agent's ZDS peers; the value is the time of admission in ns.
 * written by: agent, before its first Add to that peer; read by: connect and bind hooks;
 * deleted by: agent, when the peer is gone for good, not while it drains; when full: that tunnel is taken for an app, whose
 * listeners are refused: pods fail closed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SIZE_TUNNELS);
	__type(key, __u64);
	__type(value, __u64);
} tunnels __weak SEC(".maps");

/*
 * Whose connections from the node are probes, when not every process's are: cgroup v2 ids of kubelet; the value is the time of
 * admission in ns. Tasks in cgroups below count as well.
 * written by: agent, again when the cgroup was made anew; read by: connect hooks; deleted by: agent;
 * when full: a probe of that kubelet is captured as anybody's.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SIZE_KUBELETS);
	__type(key, __u64);
	__type(value, __u64);
} kubelets __weak SEC(".maps");

/*
 * Trial connections of the agent that are under way: netns and address they go to, and with which source they arrived.
 * written by: agent, sk_lookup; read by: sk_lookup for port PORT_TRIAL only, agent; deleted by: agent, and all at its start;
 * when full: that pod is not tried now, and again later.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SIZE_TRIALS);
	__type(key, struct own_key);
	__type(value, struct arrival);
} trials __weak SEC(".maps");

/*
 * Addresses of the node that pass the tunnel by, for netns where a trial showed that the node's own tuples do not arrive. As
 * wide as the address: what others send through the node with that source passes, too. Empty unless something masquerades.
 * written by: agent, with POD_NODE_SOURCE; read by: sk_lookup, where that flag is set; deleted by: agent;
 * when full: probes of that pod take the tunnel.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SIZE_NODE_SOURCES);
	__type(key, struct own_key);
	__type(value, __u8);
} node_sources __weak SEC(".maps");

/* What can be changed while the programs run. written by: agent; read by: every hook. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings __weak SEC(".maps");

/* Whose maps these are, and of which ABI. written by: agent, before anything is attached; read by: agents and the CLI. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct owner);
} owner __weak SEC(".maps");

/*
 * The resolver that a socket with captured DNS asked last.
 * written by: connect and sendmsg hooks; read by: recvmsg and getpeername hooks; deleted by: the kernel, with the socket;
 * when full (no memory): OUT_DROP_MAP.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct resolver);
} dns_dst __weak SEC(".maps");

/*
 * Sockets bound to one of the tunnel's ports, or connected outwards, by a task of the tunnel. Callbacks cannot ask for the cgroup
 * (before 6.4).
 * written by: bind and connect hooks; read by: sockops at listen(2) and connect(2); deleted by: the kernel, with the socket;
 * when full (no memory): the listener is refused, the pod fails closed; the connection is refused, OUT_DROP_MAP.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} tunnel_tag __weak SEC(".maps");

/*
 * Sockets of the node with an entry in `exempt`: cookie of the pod they talk to; 0 when the connect hook found them to be
 * kubelet's and the entry is still to be made.
 * written by: connect hooks, sockops at connect(2); read by: sockops at connect(2) and close; deleted by: the kernel, with the socket;
 * when full (no memory): MISC_MAP_FULL, the connection is not exempt.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} host_sock __weak SEC(".maps");

#endif
