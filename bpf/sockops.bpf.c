// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* TCP callbacks, attached to the root of cgroup v2: the tunnel's listeners, the node's own connections to pods, and SYNs of pods. */
#include "lib/listeners.h"
#include "lib/exempt.h"
#include "lib/remark.h"

char _license[] SEC("license") = "GPL";

/* not named as its section: clang would take both for one symbol */
SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	switch (FIELD(ctx, op)) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		on_listen(ctx);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_node_connect(ctx);
		on_pod_connect(ctx);
		break;
	case BPF_SOCK_OPS_RTO_CB:
		on_pod_timeout(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (FIELD(ctx, args[1]) == BPF_TCP_CLOSE)
			on_node_close(ctx);
		break;
	}
	return 1;
}
