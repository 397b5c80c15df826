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

/*
 * Which of Istio's addresses for probes this is, 169.254.7.127 or fd16:9254:7127:1337:ffff:ffff:ffff:ffff: enum istio_probes, 0 for
 * any other. By differences, not by comparing word after word: each comparison would teach the verifier another value of the
 * address, and it would walk through all that follows once more for each (1.1 ms per pod).
 */
static __always_inline __u32 probe_family(const struct addr *a)
{
	__u32 v4 = a->w[0] | a->w[1] | (a->w[2] ^ bpf_htonl(0xffff)) | (a->w[3] ^ bpf_htonl(0xa9fe077f));
	__u32 v6 = (a->w[0] ^ bpf_htonl(0xfd169254)) | (a->w[1] ^ bpf_htonl(0x71271337)) | ~(a->w[2] & a->w[3]);

	asm volatile("" : "+r"(v4), "+r"(v6));
	return !v4 ? ISTIO_PROBES_V4 : !v6 ? ISTIO_PROBES_V6 : 0;
}

/*
 * Such an address, while the agent sees istio-cni's host rule for it in the node's netns. Without that rule anybody who can choose
 * his source would have a way past the tunnel.
 */
static __always_inline bool is_trusted_probe(const struct addr *a)
{
	__u32 zero = 0, family = probe_family(a);
	struct settings *s;

	if (!family)
		return false;
	s = bpf_map_lookup_elem(&settings, &zero);
	return s && (s->istio_probes & family);
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
