#!/usr/bin/env bash
# Makes what the cluster ring runs and no distribution packages as it is wanted, into build/test/: Go modules pinned by go.sum, and single
# files of Debian packages, unpacked and not installed. Says and does nothing for what was made before of the same modules by the same Go.
#   tools.sh [TOOL...]   kube containerd coredns helm cni debian; all of them without an argument
# CULVERT_TEST_KUBE names another executable than build/test/kube, which is not made then.
set -eu
cd "$(dirname "$0")/.."
export BUILD_CACHE=${BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/culvert}

# Without a Go that is new enough for every module (Debian 12 has 1.19, Debian 13 has 1.24), this one is fetched for the build.
needed=go1.26.6
pinned=go1.26.8
toolchain=https://proxy.golang.org/golang.org/toolchain/@v/v0.0.1-$pinned.linux-amd64
sum=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7

log() { printf '  %-8s %s\n' "$1" "$2"; }

refuse() {
    echo "culvert: $1" >&2
    exit 1
}

own_go() {
    local version
    version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    [ "$(printf '%s\n' "$needed" "$version" | sort -V | head -1)" = "$needed" ] && echo "$version"
}

fetch_go() {
    [ "$(uname -m)" = x86_64 ] || refuse "no Go here, and none is pinned for $(uname -m): install Go ${needed#go} or newer"
    if [ ! -x "$work/go/bin/go" ]; then
        scripts/deps.sh fetch
        curl -sSfL --retry 3 -o "$work/go.zip" "$toolchain.zip"
        echo "$sum  $work/go.zip" | sha256sum --check --status || refuse "$toolchain.zip is not what was pinned"
        unzip -q "$work/go.zip" -d "$work"
        rm "$work/go.zip"
        mv "$work/golang.org/toolchain@v0.0.1-$pinned.linux-amd64" "$work/go"
        chmod +x "$work"/go/bin/* "$work"/go/pkg/tool/*/* # modules have no modes
    fi
    PATH=$work/go/bin:$PATH
}

# Kubernetes tells its version to the API's clients, and is given it by the linker.
kube_version() {
    local version minor
    version=$(sed -n 's/^\tk8s.io\/kubernetes v//p' test/cluster/kube/go.mod)
    minor=${version#*.}
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf ' -X %s' "$package.gitVersion=v$version" "$package.gitMajor=${version%%.*}" "$package.gitMinor=${minor%%.*}" "$package.gitTreeState=clean"
    done
}

# compile TOOL OUTPUT: a directory of executables where OUTPUT ends with a slash, else one executable.
compile() {
    local flags='-s -w' package=.
    work=${TOOLS_WORK:?}
    mkdir -p "$work"
    # Sources and intermediate files take 5 GB: they go with the directory; what is kept is the executables.
    export GOMODCACHE=$work/modules GOCACHE=$work/cache GOPATH=$work/path GOTMPDIR=$work GOTOOLCHAIN=local GOWORK=off GOFLAGS=-modcacherw CGO_ENABLED=0
    unset GOROOT
    own_go >/dev/null || fetch_go
    [ "$1" != kube ] || flags+=$(kube_version)
    [ -e "test/cluster/$1/main.go" ] || package=tool # those that go.mod names
    rm -rf "$2"
    case $2 in */) mkdir -p "$2" ;; *) mkdir -p "${2%/*}" ;; esac
    (cd "test/cluster/$1" && nice go build -trimpath -buildvcs=false -ldflags "$flags" -o "../../../$2" "$package" 2>"$work/log") || { tail -30 "$work/log" >&2; exit 1; }
}

# unpack OUTPUT PACKAGE FILE...: those files of the distribution's package, in a directory. Packages of later releases have /bin in /usr.
unpack() {
    local output=$1 package=$2 work=${TOOLS_WORK:?}/$2
    shift 2
    rm -rf "$output" "$work"
    mkdir -p "$output" "$work"
    (
        cd "$work"
        apt-get download -q "$package" || { apt-get update -q && apt-get download -q "$package"; }
        dpkg-deb -x ./*.deb .
    ) >"$work.log" 2>&1 || { tail -30 "$work.log" >&2; exit 1; }
    for file; do
        [ -e "$work/$file" ] || file=usr/$file
        mv "$work/$file" "$output"
    done
}

go_tool() { # TOOL OUTPUT WHAT
    scripts/cached.sh "${2%/}" "test/cluster/$1" -- scripts/tools.sh --compile "$1" "$2" "$3" "$(own_go || echo "$pinned")"
}

deb() { # OUTPUT PACKAGE FILE...
    scripts/cached.sh "$1" /etc/os-release -- scripts/tools.sh --unpack "$@"
}

make_tool() {
    case $1 in
        kube)
            if [ -z "${CULVERT_TEST_KUBE:-}" ]; then
                go_tool kube build/test/kube 'etcd and Kubernetes, about five minutes, once'
            elif [ ! -x "$CULVERT_TEST_KUBE" ]; then
                refuse "CULVERT_TEST_KUBE: no executable $CULVERT_TEST_KUBE"
            fi ;;
        containerd) go_tool containerd build/test/containerd/ 'a minute, once' ;;
        coredns) go_tool coredns build/test/coredns 'a minute, once' ;;
        helm) go_tool helm build/test/helm 'a minute, once' ;;
        cni) go_tool cni build/test/cni/ 'some seconds, once' ;;
        debian)
            deb build/test/debian busybox-static bin/busybox
            deb build/test/debian-containerd containerd usr/bin/containerd usr/bin/containerd-shim-runc-v2 usr/bin/ctr ;;
        *) refuse "no tool is called '$1'" ;;
    esac
}

case ${1:-} in
    --compile)
        log GO "$3: $4"
        compile "$2" "$3" ;;
    --unpack)
        log DEB "$2: of the package $3"
        unpack "${@:2}" ;;
    *)
        # One for all, since they share modules; made when something is compiled.
        TOOLS_WORK=$BUILD_CACHE/work.$$
        export TOOLS_WORK
        trap 'rm -rf "$TOOLS_WORK"' EXIT
        trap 'exit 1' INT TERM
        [ $# -gt 0 ] || set -- debian cni containerd coredns helm kube
        for tool; do make_tool "$tool"; done ;;
esac
