#!/usr/bin/env bash
# Makes build/test/kube: etcd and the parts of Kubernetes in one executable, for the cluster ring. Nothing to do, and nothing said, when
# CULVERT_TEST_KUBE names one, or when it was made before of the same modules by the same Go.
set -eu
cd "$(dirname "$0")/.."
export BUILD_CACHE=${BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/culvert}
output=build/test/kube

# Without a Go that is new enough (Debian 12 has 1.19), this one is fetched for the build.
pinned=go1.24.13
toolchain=https://proxy.golang.org/golang.org/toolchain/@v/v0.0.1-$pinned.linux-amd64
sum=d2b048367a3d1a748b87f756fa06df12ce3b419e1d5f2a3612acb8950d615f9f

refuse() {
    echo "culvert: $1" >&2
    exit 1
}

own_go() {
    local version
    version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    [ "$(printf '%s\n' go1.24 "$version" | sort -V | head -1)" = go1.24 ] && echo "$version"
}

fetch_go() {
    [ "$(uname -m)" = x86_64 ] || refuse "no Go here, and none is pinned for $(uname -m): install Go 1.24 or newer"
    scripts/deps.sh fetch
    curl -sSfL --retry 3 -o "$work/go.zip" "$toolchain.zip"
    echo "$sum  $work/go.zip" | sha256sum --check --status || refuse "$toolchain.zip is not what was pinned"
    unzip -q "$work/go.zip" -d "$work"
    rm "$work/go.zip"
    mv "$work/golang.org/toolchain@v0.0.1-$pinned.linux-amd64" "$work/go"
    chmod +x "$work"/go/bin/* "$work"/go/pkg/tool/*/* # modules have no modes
    PATH=$work/go/bin:$PATH
}

compile() {
    local version minor flags
    work=$(mktemp -d "$BUILD_CACHE/kube.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' INT TERM
    # Sources and intermediate files take 4 GB: they go with the directory; what is kept is the executable.
    export GOMODCACHE=$work/modules GOCACHE=$work/cache GOPATH=$work/path GOTMPDIR=$work GOTOOLCHAIN=local GOWORK=off GOFLAGS=-modcacherw CGO_ENABLED=0
    unset GOROOT
    own_go >/dev/null || fetch_go
    version=$(sed -n 's/^\tk8s.io\/kubernetes v//p' test/cluster/kube/go.mod)
    minor=${version#*.}
    flags='-s -w'
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=v$version -X $package.gitMajor=${version%%.*} -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
    done
    mkdir -p "${output%/*}"
    (cd test/cluster/kube && nice go build -trimpath -buildvcs=false -ldflags "$flags" -o "../../../$output" . 2>"$work/log") || { tail -30 "$work/log" >&2; exit 1; }
}

if [ "${1:-}" = --compile ]; then
    printf '  %-8s %s\n' GO "$output: etcd and Kubernetes, about five minutes, once"
    compile
elif [ -n "${CULVERT_TEST_KUBE:-}" ]; then
    [ -x "$CULVERT_TEST_KUBE" ] || refuse "CULVERT_TEST_KUBE: no executable $CULVERT_TEST_KUBE"
else
    scripts/cached.sh "$output" test/cluster/kube/{main.go,go.mod,go.sum} -- scripts/kube.sh --compile "$(own_go || echo "$pinned")"
fi
