// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * One program and link per enrolled netns: the loader takes these instructions, puts the netns cookie in the place of
 * COOKIE_SENTINEL and loads them again.
 */
#include "lib/inbound.h"

char _license[] SEC("license") = "GPL";

/* volatile, so that the value stays one 64-bit immediate load that the loader finds */
static __always_inline __u64 my_cookie(void)
{
	__u64 cookie;

	asm volatile("%0 = %1 ll" : "=r"(cookie) : "i"(COOKIE_SENTINEL));
	return cookie;
}

/*
 * Adds nothing (a family is below 65536), which the verifier does not know: it forgets which reason it is and walks through
 * report() once instead of once per reason. Loading, which each pod waits for, takes 0.75 ms instead of 2.
 */
static __always_inline __u32 any_reason(struct bpf_sk_lookup *ctx, __u32 reason)
{
	return reason ^ (FIELD(ctx, family) >> 16);
}

/* not named as its section: clang would take both for one symbol */
SEC("sk_lookup")
int lookup(struct bpf_sk_lookup *ctx)
{
	struct tuple t = {};
	__u32 reason;

	if (FIELD(ctx, protocol) != IPPROTO_TCP)
		return SK_PASS;
	t.cookie = my_cookie();
	lookup_tuple(ctx, &t);
	reason = any_reason(ctx, decide_lookup(ctx, &t));
	report(&t, reason, IPPROTO_TCP);
	return is_lookup_drop(reason) ? SK_DROP : SK_PASS;
}
