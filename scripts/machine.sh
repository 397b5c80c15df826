#!/usr/bin/env bash
# Can this machine run Culvert at all? Silent when it can; else one sentence, and exit 1. Nothing is assumed from a version number.
#   machine.sh            root, and what can be told before anything is installed
#   machine.sh features   what the datapath needs of bpf(2), asked of the kernel through bpftool
set -eu

refuse() {
    echo "culvert: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || refuse 'this needs root, for network namespaces, cgroups and bpf(2): run it as root or with sudo'
[ "$(uname -s)" = Linux ] || refuse "this needs Linux, and here is $(uname -s)"
grep -qw cgroup2 /proc/filesystems || refuse "kernel $(uname -r) has no cgroup v2, to which the programs are attached"
[ -e /proc/sys/kernel/unprivileged_bpf_disabled ] || refuse "kernel $(uname -r) has no bpf(2) system call, or /proc/sys is hidden"
why=$(unshare --net --mount true 2>&1) ||
    refuse "this root may not create network and mount namespaces ($why): run it on the machine itself or in a privileged container"

[ "${1:-}" = features ] || exit 0

probe=$(bpftool -j feature probe kernel 2>/dev/null) || refuse 'bpftool could not probe the kernel: bpf(2) is refused here (CAP_BPF)'
grep -q '"have_sk_lookup_prog_type":true' <<<"$probe" ||
    refuse "kernel $(uname -r) has no sk_lookup programs, which give captured connections to the tunnel (Linux 5.9)"
grep -q '"have_cgroup_sock_addr_prog_type":true' <<<"$probe" ||
    refuse "kernel $(uname -r) has no cgroup/connect programs, which capture outbound connections (CONFIG_CGROUP_BPF)"
# One list of helpers per program type: the one of sock_ops must know the network namespace's cookie.
grep -oE '"sock_ops_available_helpers":\[[^]]*' <<<"$probe" | grep -q bpf_get_netns_cookie ||
    refuse "kernel $(uname -r) has no bpf_get_netns_cookie in sock_ops programs, by which a pod is recognised (Linux 5.15)"
unshare --net sh -c 'test -e /proc/sys/net/ipv4/tcp_fwmark_accept && ip rule add pref 32000 fwmark 0x111/0xfff lookup 100' 2>/dev/null ||
    refuse "kernel $(uname -r) has no policy routing by mark (CONFIG_IP_MULTIPLE_TABLES)"
