/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Wire numbers of Istio's ambient mode, and the datapath's own times. Userspace reads them from BTF enums. */
#ifndef CULVERT_ABI_LIMITS_H
#define CULVERT_ABI_LIMITS_H

enum wire {
	MARK_MASK = 0xfff,
	MARK_TUNNEL = 0x539, /* on ztunnel's own sockets */
	MARK_LOCAL = 0x111, /* "deliver locally", by rule and table 100 */
	PORT_OUTBOUND = 15001,
	PORT_INBOUND = 15006,
	PORT_HBONE = 15008,
	PORT_DNS = 15053,
	ROUTE_TABLE = 100,
	RULE_PREF = 32764,
	RULE_PREF_PROHIBIT = 32765,
	LISTENER_SLOTS = 4,
};

#define INNER_NS 10000000000ull /* ztunnel's connect timeout */
#define EXEMPT_NS 180000000000ull /* above 127 s, the last SYN retransmission */

#endif
