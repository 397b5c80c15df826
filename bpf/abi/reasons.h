/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Why a connection went where it went.  Numbers are append-only, never reused; they are map keys, event fields and metric
 * labels.  The name's first words say direction and verdict: OUT|IN, then REDIRECT, PASS or DROP; REG and MISC are neither.
 * Userspace derives its names from these (OUT_PASS_OWN: direction "outbound", verdict "passed", reason "own").
 */
#ifndef CULVERT_ABI_REASONS_H
#define CULVERT_ABI_REASONS_H

enum reason {
	REASON_NONE = 0,
	OUT_REDIRECT_TUNNEL = 1, /* connect marked 0x111; goes to 15001 */
	OUT_REDIRECT_DNS_UDP = 2, /* port 53 rewritten to 15053 */
	OUT_REDIRECT_DNS_TCP = 3,
	OUT_PASS_TUNNEL = 4, /* the tunnel's own socket */
	OUT_PASS_INNER = 5, /* the tunnel to the app with the client's source address */
	OUT_PASS_INACTIVE = 6, /* netns prepared or draining */
	OUT_PASS_LOOPBACK = 7,
	OUT_PASS_OWN = 8,
	OUT_PASS_PROBE = 9, /* to Istio's probe address, while istio-cni's host rule exists */
	OUT_DROP_NO_TUNNEL = 10, /* no living 15001 listener: ECONNREFUSED */
	OUT_DROP_DNS_NO_TUNNEL = 11, /* the 15053 listener that once was is gone */
	OUT_DROP_DEVICE = 12, /* bound to another device: EHOSTUNREACH */
	OUT_DROP_SOURCE = 13, /* source bound to 127/8, or to no address of the pod: EINVAL */
	OUT_DROP_MARK = 14, /* SO_MARK refused by the kernel */
	OUT_DROP_LOOKUP = 15, /* captured SYN found no 15001 listener */
	OUT_DROP_ASSIGN = 16, /* bpf_sk_assign failed */
	OUT_REDIRECT_ACCEPTED = 17, /* captured SYN handed to 15001; its event carries the whole tuple */
	OUT_PASS_DNS_OFF = 18, /* UDP port 53, and the pod wants no DNS capture or no 15053 listener ever registered */
	OUT_DROP_MAP = 19, /* `inner`, `dns_dst` or `tunnel_tag` had no room: going on would loop or leak */
	IN_REDIRECT_TUNNEL = 20, /* handed to 15006 */
	IN_REDIRECT_HBONE = 21, /* handed to the newest 15008 listener */
	IN_PASS_SELF = 22,
	IN_PASS_INNER = 23, /* the tunnel to the app */
	IN_PASS_EXEMPT = 24, /* a probe of this node, by exact tuple */
	IN_PASS_PROBE = 25, /* from Istio's probe address, while istio-cni's host rule exists */
	IN_PASS_INACTIVE = 26,
	IN_PASS_INGRESS = 27, /* ingress mode */
	IN_DROP_NO_TUNNEL = 28, /* no living listener */
	IN_DROP_ASSIGN = 29,
	IN_PASS_HBONE = 30, /* 15008 while draining: the kernel finds the tunnel; leaving waits for these */
	IN_PASS_NODE = 31, /* from an address of the node, where its exact tuples do not arrive */
	REG_LISTENER = 40, /* a listener of the tunnel registered */
	REG_REFUSED = 41, /* mark 0x539 on a listener that is not the tunnel's */
	REG_FAILED = 42, /* SOCKHASH or generation update failed */
	MISC_BIND_REUSE = 43, /* SO_REUSEADDR set for the bind fix */
	MISC_EXEMPT_ADDED = 44,
	MISC_EXEMPT_DELETED = 45,
	MISC_FALSE_TUNNEL = 46, /* mark 0x539 on a socket of a task that is not the tunnel: treated as an app's */
	MISC_APP_MARK = 47, /* an app's listener has a mark of its own: no inbound can reach it */
	MISC_EVENT_LOST = 48, /* ring buffer full */
	MISC_MAP_FULL = 49, /* an update failed; cookie says whose */
	MISC_TRIAL = 50, /* a trial connection of the agent: its source was noted, and it was refused */
	MISC_REMARKED = 51, /* the mark of a captured connection was changed before a SYN of it left: marked again */
};

#define REASON_BIT(reason) (1ull << (reason)) /* so reasons stay below 64 */

/*
 * What somebody on call must hear of: reported as events of class EVENT_REFUSED. Listeners of the tunnel, too: the agent looks
 * at each whether it can answer.
 */
#define REASONS_REFUSED                                                                                                \
	(REASON_BIT(OUT_DROP_NO_TUNNEL) | REASON_BIT(OUT_DROP_DNS_NO_TUNNEL) | REASON_BIT(OUT_DROP_DEVICE) |           \
	 REASON_BIT(OUT_DROP_SOURCE) | REASON_BIT(OUT_DROP_MARK) | REASON_BIT(OUT_DROP_LOOKUP) |                       \
	 REASON_BIT(OUT_DROP_ASSIGN) | REASON_BIT(OUT_DROP_MAP) | REASON_BIT(IN_DROP_NO_TUNNEL) |                      \
	 REASON_BIT(IN_DROP_ASSIGN) | REASON_BIT(REG_LISTENER) | REASON_BIT(REG_REFUSED) | REASON_BIT(REG_FAILED) |    \
	 REASON_BIT(MISC_FALSE_TUNNEL) | REASON_BIT(MISC_APP_MARK) | REASON_BIT(MISC_REMARKED))

#define REASONS_REDIRECTED                                                                                             \
	(REASON_BIT(OUT_REDIRECT_TUNNEL) | REASON_BIT(OUT_REDIRECT_DNS_UDP) | REASON_BIT(OUT_REDIRECT_DNS_TCP) |       \
	 REASON_BIT(OUT_REDIRECT_ACCEPTED) | REASON_BIT(IN_REDIRECT_TUNNEL) | REASON_BIT(IN_REDIRECT_HBONE))

#define REASONS_PASSED                                                                                                 \
	(REASON_BIT(OUT_PASS_TUNNEL) | REASON_BIT(OUT_PASS_INNER) | REASON_BIT(OUT_PASS_INACTIVE) |                    \
	 REASON_BIT(OUT_PASS_LOOPBACK) | REASON_BIT(OUT_PASS_OWN) | REASON_BIT(OUT_PASS_PROBE) |                       \
	 REASON_BIT(OUT_PASS_DNS_OFF) | REASON_BIT(IN_PASS_SELF) | REASON_BIT(IN_PASS_INNER) |                         \
	 REASON_BIT(IN_PASS_EXEMPT) | REASON_BIT(IN_PASS_PROBE) | REASON_BIT(IN_PASS_INACTIVE) |                       \
	 REASON_BIT(IN_PASS_INGRESS) | REASON_BIT(IN_PASS_HBONE) | REASON_BIT(IN_PASS_NODE))

#endif
