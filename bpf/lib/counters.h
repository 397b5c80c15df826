/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Every decision about an enrolled netns is counted under its reason, and reported as an event while somebody watches. */
#ifndef CULVERT_LIB_COUNTERS_H
#define CULVERT_LIB_COUNTERS_H

#include "../abi/reasons.h"
#include "maps.h"

static __always_inline void count(__u64 cookie, __u32 reason)
{
	struct counter_key key = { .cookie = cookie, .reason = reason };
	__u64 one = 1;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (!value) {
		if (!bpf_map_update_elem(&counters, &key, &one, BPF_NOEXIST))
			return;
		/* another CPU made the entry in between, or the map is full: then this one is not counted */
		value = bpf_map_lookup_elem(&counters, &key);
		if (!value)
			return;
	}
	*value += 1;
}

static __always_inline __u32 event_class_of(__u32 reason)
{
	__u64 bit = REASON_BIT(reason & 63);

	if (bit & REASONS_REFUSED)
		return EVENT_REFUSED;
	if (bit & REASONS_REDIRECTED)
		return EVENT_REDIRECTED;
	if (bit & REASONS_PASSED)
		return EVENT_PASSED;
	return 0;
}

static __always_inline void emit(const struct tuple *t, __u32 reason, __u32 protocol)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		count(t->cookie, MISC_EVENT_LOST);
		return;
	}
	event->time = bpf_ktime_get_ns();
	event->cookie = t->cookie;
	event->src = t->src;
	event->dst = t->dst;
	event->sport = t->sport;
	event->dport = t->dport;
	event->reason = reason;
	event->protocol = protocol;
	event->reserved = 0;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* Counts a decision about t->cookie, and emits its event if its class is wanted. REASON_NONE is not a decision. */
static __always_inline void report(const struct tuple *t, __u32 reason, __u32 protocol)
{
	__u32 zero = 0, mask = EVENT_REFUSED;
	struct settings *s;

	if (reason == REASON_NONE)
		return;
	count(t->cookie, reason);
	s = bpf_map_lookup_elem(&settings, &zero);
	if (s && s->event_mask)
		mask = s->event_mask;
	if (mask & event_class_of(reason))
		emit(t, reason, protocol);
}

#endif
