#!/usr/bin/env bash
# Runs test/netns/bench/geneve.test.ts on the distribution's own kernel, which has Geneve, in an emulated machine: no KVM, no image. Its
# root is this machine's, read-only, with an overlay in memory; its kernel comes out of a Debian package, unpacked into
# build/test/geneve-kernel and not installed. Takes two or three minutes on an idle machine, 2 GB of memory, 120 MB of disk.
# CULVERT_TEST_GENEVE_SECONDS: how long the emulated machine may take; default 1500.
set -eu
cd "$(dirname "$0")/../.."
export BUILD_CACHE=${BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/culvert}
kernel=$PWD/build/test/geneve-kernel
architecture=$(dpkg --print-architecture 2>/dev/null || echo unknown)

refuse() {
    echo "culvert: $1" >&2
    exit 1
}

# What the kernel needs to have its root, before it can load anything from there; what the rest needs is loaded from there.
early='kernel/drivers/virtio kernel/net/9p kernel/fs/9p kernel/fs/netfs kernel/fs/fscache kernel/fs/overlayfs'
late='kernel/net kernel/lib kernel/crypto kernel/arch kernel/drivers/net/geneve.ko kernel/drivers/net/veth.ko kernel/drivers/net/vxlan'

unpack_kernel() {
    local work=$kernel.work package modules part
    rm -rf "$work" "$kernel"
    mkdir -p "$work" "$kernel"
    (
        cd "$work"
        apt-get update -q
        package=$(apt-cache depends "linux-image-$architecture" | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -1)
        apt-get download -q "$package"
        dpkg-deb -x ./*.deb .
    ) >"$kernel.log" 2>&1 || { tail -30 "$kernel.log" >&2; exit 1; }
    mv "$work"/boot/vmlinuz-* "$kernel/vmlinuz"
    modules=$(echo "$work"/usr/lib/modules/* "$work"/lib/modules/* | tr ' ' '\n' | grep -v '\*' | head -1)
    for part in $early $late; do
        [ -e "$modules/$part" ] || continue # built in, or not of this architecture
        mkdir -p "$(dirname "$kernel/lib/modules/${modules##*/}/$part")"
        cp -r "$modules/$part" "$(dirname "$kernel/lib/modules/${modules##*/}/$part")"
    done
    cp "$modules"/modules.builtin* "$modules"/modules.order "$kernel/lib/modules/${modules##*/}"
    rm -rf "$work"
    build/test/debian/busybox depmod -b "$kernel" "${modules##*/}"
}

pack_initramfs() {
    local work=$1 version part
    version=$(basename "$kernel"/lib/modules/*)
    mkdir -p "$work/root/bin" "$work/root/lib/modules/$version"
    cp build/test/debian/busybox "$work/root/bin/busybox"
    cp test/kernels/init.sh "$work/root/init"
    for part in $early modules.dep modules.alias modules.symbols modules.builtin; do
        [ -e "$kernel/lib/modules/$version/$part" ] || continue
        mkdir -p "$(dirname "$work/root/lib/modules/$version/$part")"
        cp -r "$kernel/lib/modules/$version/$part" "$work/root/lib/modules/$version/$part"
    done
    (cd "$work/root" && find . | "$OLDPWD/build/test/debian/busybox" cpio -o -H newc 2>/dev/null) >"$work/initramfs"
}

if [ "${1:-}" = --unpack ]; then
    unpack_kernel
    exit
fi

[ "$architecture" = amd64 ] || refuse "test-geneve runs on Debian for amd64 only, this is $architecture"
[ "$(id -u)" = 0 ] || refuse 'test-geneve shares this machine'"'"'s root with the emulated one: run it as root'
scripts/deps.sh run emulator
scripts/tools.sh debian
scripts/cached.sh build/test/geneve-kernel test/kernels/geneve.sh /etc/os-release -- test/kernels/geneve.sh --unpack
[ -e build/addon/culvert.node ] || refuse 'build/addon/culvert.node is missing: make addon'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
pack_initramfs "$work"

# 57-bit addresses, which `max` has, stop later kernels under emulation.
started=$SECONDS
nice timeout "${CULVERT_TEST_GENEVE_SECONDS:-1500}" qemu-system-x86_64 -accel tcg -cpu max,la57=off -smp 1 -m 2048 -nodefaults -no-reboot \
    -display none -serial stdio -nic none -kernel "$kernel/vmlinuz" -initrd "$work/initramfs" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -append "console=ttyS0 quiet panic=-1 culvert.tree=$PWD culvert.kernel=$kernel" </dev/null |
    tr -d '\r' | tee "$work/console" || true
status=$(sed -n 's/.*culvert: tests ended with \([0-9]*\)$/\1/p' "$work/console")
[ -n "$status" ] || refuse "the emulated machine ended after $((SECONDS - started)) s without a result"
echo "culvert: the emulated machine took $((SECONDS - started)) s"
exit "$status"
