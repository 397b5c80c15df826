/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* One of each thing that bpf.test.ts asks of the addon. */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u64 wide = 1;
const volatile signed char narrow = 2;
const volatile unsigned char flag = 3;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, __u64);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} ring SEC(".maps");

static __u32 count;

SEC("cgroup/connect4")
int connect(struct bpf_sock_addr *ctx)
{
	return 1;
}

SEC("cgroup/connect4")
int rejected(struct bpf_sock_addr *ctx)
{
	return *(int *)((char *)ctx + 4000);
}

static __always_inline void put(__u64 key, __u64 value)
{
	bpf_map_update_elem(&table, &key, &value, BPF_ANY);
}

SEC("sk_lookup")
int lookup(struct bpf_sk_lookup *ctx)
{
	put(1, wide);
	put(2, (__u64)(__s64)narrow);
	put(3, flag);
	put(4, 0x7ca1be27c01e0001ull);
	return SK_PASS;
}

SEC("tc")
int events(struct __sk_buff *skb)
{
	__u32 *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (record) {
		*record = count++;
		bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
