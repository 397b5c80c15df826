/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Kinds of addresses. IPv4 is ::ffff:a.b.c.d throughout, so each test answers for v4, v6 and v4-mapped. */
#ifndef CULVERT_LIB_ADDRESS_H
#define CULVERT_LIB_ADDRESS_H

#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include "maps.h"

static __always_inline bool is_ipv4(const struct addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == bpf_htonl(0xffff);
}

/* 127.0.0.0/8, ::1 */
static __always_inline bool is_loopback(const struct addr *a)
{
	if (is_ipv4(a))
		return (a->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !a->w[0] && !a->w[1] && !a->w[2] && a->w[3] == bpf_htonl(1);
}

/* 0.0.0.0, :: (which connect(2) takes as loopback) */
static __always_inline bool is_unspecified(const struct addr *a)
{
	return !a->w[0] && !a->w[1] && (!a->w[2] || a->w[2] == bpf_htonl(0xffff)) && !a->w[3];
}

/* Istio's source for probes that must not be captured: 169.254.7.127 and fd16:9254:7127:1337:ffff:ffff:ffff:ffff. */
static __always_inline bool is_probe(const struct addr *a)
{
	if (is_ipv4(a))
		return a->w[3] == bpf_htonl(0xa9fe077f);
	return a->w[0] == bpf_htonl(0xfd169254) && a->w[1] == bpf_htonl(0x71271337) && a->w[2] == 0xffffffff &&
	       a->w[3] == 0xffffffff;
}

static __always_inline bool is_same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

/* An address of the netns itself, by the agent's word. */
static __always_inline bool is_own(__u64 cookie, const struct addr *a)
{
	struct own_key key = { .cookie = cookie, .addr = *a };

	return bpf_map_lookup_elem(&own, &key) != NULL;
}

#endif
