#!/usr/bin/env bash
# rootfs.sh DIRECTORY makes the root filesystem of the image in a new directory: build/culvert and build/culvert-cni, the host's own
# programs that they run, and the libraries of all these. Used by deploy/Dockerfile and by the tests' clusters alike. Needs `make build`.
set -euo pipefail
cd "$(dirname "$0")/.."

root=${1:?usage: deploy/rootfs.sh DIRECTORY}
case $root in /*) ;; *) root=$OLDPWD/$root ;; esac
[ ! -e "$root" ] || [ -z "$(ls -A "$root")" ] || { echo "rootfs.sh: $root is not empty" >&2; exit 1; }

executables='build/culvert build/culvert-cni'
addon=build/addon/culvert.node
# what src/ runs: `culvert verify` opens a network namespace of its own (src/agent/probe-netns.ts); the drivers iptables and nftables,
# and the taking over from istio-cni, use the tools of netfilter
programs='cat ip nsenter sh unshare nft ipset'
# one executable with many names, for each variant, and the modules that it loads by rule
xtables='xtables-nft-multi xtables-legacy-multi'
PATH=$PATH:/usr/sbin:/sbin

for file in $executables "$addon"; do
    [ -e "$file" ] || { echo "rootfs.sh: there is no $file, make build makes it" >&2; exit 1; }
done

# Directories that are mounted over: a root that is read-only has to have them, and all runtimes agree on one that is there.
umask 022
mkdir -p "$root"/usr/{bin,sbin,lib,lib64,local/bin} "$root"/{dev,proc,sys,run,root} "$root"/etc/culvert "$root"/var/{cache,lib/culvert} \
    "$root"/host/{proc,sys/fs/cgroup} "$root"/opt/cni/bin "$root"/etc/cni/net.d
for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$root/$directory"; done
ln -s ../run "$root/var/run"
mkdir -m 1777 "$root/tmp"
chmod 700 "$root/root"

# Names for the two users that containers run as.
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nonroot:x:65532:65532:nonroot:/tmp:/bin/false' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'nonroot:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
# --root-cert SYSTEM: the one file where Node looks for many certificates, and the directory where each has its own
mkdir -p "$root/etc/ssl/certs"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/cert.pem"

place() { # SOURCE DESTINATION MODE
    cp -L --reflink=auto "$1" "$root$2"
    chmod "$3" "$root$2"
}

for file in $executables; do place "$file" "/usr/local/bin/${file##*/}" 755; done
for program in $programs; do
    path=$(command -v "$program") || { echo "rootfs.sh: $program is not installed here" >&2; exit 1; }
    place "$path" "/usr/bin/$program" 755
done

for program in $xtables; do
    path=$(command -v "$program") || { echo "rootfs.sh: $program is not installed here (package iptables)" >&2; exit 1; }
    place "$path" "/usr/sbin/$program" 755
    variant=${program#xtables-}
    for name in iptables ip6tables; do
        for verb in '' -save -restore; do ln -s "$program" "$root/usr/sbin/$name-${variant%-multi}$verb"; done
    done
done
for name in iptables ip6tables; do
    for verb in '' -save -restore; do ln -s xtables-nft-multi "$root/usr/sbin/$name$verb"; done
done
modules=$(dirname "$(find /usr/lib /lib -name libxt_tcp.so -print -quit)")
mkdir -p "$root$modules"
cp -L --reflink=auto "$modules"/lib{xt,ipt,ip6t}_*.so "$root$modules"

# The addon where src/sys/unpack.ts would put it, so that nothing has to be unpacked: the root may be read-only. It has to be the one
# that is inside the executable, which may be of an earlier build.
within='const { readFileSync } = require("node:fs"); process.exit(readFileSync(process.argv[1]).includes(readFileSync(process.argv[2])) ? 0 : 1)'
node_modules/.bin/node -e "$within" build/culvert "$addon" || { echo "rootfs.sh: build/culvert has another addon inside than $addon: make build" >&2; exit 1; }
unpacked=/var/cache/culvert/$(sha256sum "$addon" | cut -d' ' -f1)
mkdir -m 700 "$root/var/cache/culvert" "$root$unpacked"
place "$addon" "$unpacked/culvert.node" 500

# Every library by the path that the loader asks for; "not found" is an error here instead of one at run time.
libraries=$(cd "$root" && ldd usr/local/bin/* usr/bin/* usr/sbin/xtables-* "$(find . -name libxt_tcp.so)" ".$unpacked/culvert.node")
if grep -F 'not found' <<<"$libraries" >&2; then exit 1; fi
sed -nE 's/^\t(.* => )?(\/[^ ]+) \(0x.*/\2/p' <<<"$libraries" | sort -u | while read -r library; do
    mkdir -p "$root${library%/*}"
    place "$library" "$library" 755
done
