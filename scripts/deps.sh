#!/usr/bin/env bash
# Installs what is missing here, and says so in one line each; with nothing missing it says and does nothing.
#   deps.sh build [run] [cluster] [check] [fetch] [emulator]
# Each need is a command or a file and the Debian package that brings it; apt is only asked when one is absent.
set -eu
cd "$(dirname "$0")/.."

build='
clang                              clang
g++                                g++
pkg-config                         pkg-config
bpftool                            bpftool
npm                                npm
/etc/ssl/certs/ca-certificates.crt ca-certificates
/usr/include/bpf/bpf_helpers.h     libbpf-dev
/usr/include/libmnl/libmnl.h       libmnl-dev
/usr/include/libelf.h              libelf-dev
/usr/include/zlib.h                zlib1g-dev'
run='
/usr/lib/cni/bridge                containernetworking-plugins
curl                               curl
tcpdump                            tcpdump
ip                                 iproute2
nsenter                            util-linux
setpriv                            util-linux
sysctl                             procps
iptables-save                      iptables
nft                                nftables
conntrack                          conntrack
ipset                              ipset'
cluster='
runc                               runc'
check='
clang-format                       clang-format'
fetch='
curl                               curl
unzip                              unzip'
emulator='
qemu-system-x86_64                 qemu-system-x86'

# Our own Node must not be the one that runs npm, which would replace it while it runs.
PATH=$(tr ':' '\n' <<<"$PATH" | grep -v '/node_modules/\.bin$' | paste -sd:):/usr/sbin:/sbin

log() { printf '  %-8s %s\n' "$1" "$2"; }

# Runs a command with its output kept aside: shown only when it fails.
quietly() {
    local out status=0
    out=$(mktemp)
    if [ -n "${V:-}" ]; then "$@" || status=$?; else "$@" >"$out" 2>&1 || status=$?; fi
    [ "$status" = 0 ] || { cat "$out" >&2; echo "culvert: failed with status $status: $*" >&2; }
    rm -f "$out"
    return "$status"
}

missing=()
for set in "$@"; do
    while read -r need package; do
        [ -n "$need" ] || continue
        case $need in
            /*) [ -e "$need" ] || missing+=("$package") ;;
            *) command -v "$need" >/dev/null || missing+=("$package") ;;
        esac
    done <<<"${!set}"
done

if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || { echo "culvert: missing here, and without apt-get to be installed by hand: ${missing[*]}" >&2; exit 1; }
    [ "$(id -u)" = 0 ] || { echo "culvert: missing here, and only root may install it: apt-get install ${missing[*]}" >&2; exit 1; }
    log APT "install ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update -q
    quietly apt-get install -yq --no-install-recommends -o DPkg::Lock::Timeout=120 "${missing[@]}"
fi

# Only a build needs node_modules, and nobody else may replace it under those who run from it.
case " $* " in *' build '*) ;; *) exit 0 ;; esac

# node_modules follows package-lock.json; the stamp is the lock file it was installed from.
stamp=node_modules/.culvert-lock
if ! cmp -s package-lock.json "$stamp" || [ ! -x node_modules/node/bin/node ]; then
    log NPM 'ci: node_modules from package-lock.json'
    # The executable that the package `node` would fetch in its install script, at the version of the lock file. It comes first and
    # runs npm itself: npm leaves out optional packages (the compiled parts of our tools) that the Node running it is too old for.
    case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
    version=$(sed -n '/"node_modules\/node": {/,/}/s/.*"version": "\(.*\)".*/\1/p' package-lock.json)
    node=${BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/culvert}/node-$version-$arch
    if [ ! -x "$node" ]; then
        mkdir -p "${node%/*}"
        fetched=$(mktemp -d "$node.XXXXXX")
        trap 'rm -rf "$fetched"' EXIT
        quietly npm pack --pack-destination "$fetched" "node-linux-$arch@$version"
        tar -xzf "$fetched"/*.tgz -C "$fetched" package/bin/node
        "$fetched/package/bin/node" --version >/dev/null || { echo "culvert: Node $version for $arch does not run here" >&2; exit 1; }
        mv "$fetched/package/bin/node" "$node"
    fi
    touch "$node" # scripts/cached.sh throws away what was not used for a month
    # No package's own install script is run, so that npm 9, which runs them all, and npm 12, which blocks them, do the same.
    # NODE_PATH is where Debian's npm has its modules, which only Debian's Node finds by itself.
    NODE_PATH=/usr/share/nodejs quietly "$node" "$(readlink -f "$(command -v npm)")" ci --ignore-scripts --no-audit --no-fund --loglevel=error
    mkdir -p node_modules/node/bin node_modules/.bin
    cp --reflink=auto "$node" node_modules/node/bin/node
    ln -sf ../node/bin/node node_modules/.bin/node
    cp package-lock.json "$stamp"
fi
