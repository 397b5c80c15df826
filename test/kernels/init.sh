#!/bin/busybox sh
# The first process of the emulated machine, out of the initramfs: makes a root of the host's, read-only, and an overlay in memory,
# and runs the tests in it. The kernel's command line names tree and kernel.
export PATH=/bin
/bin/busybox --install -s /bin

end() {
    echo "culvert: tests ended with $1"
    sync
    poweroff -f
}

value() {
    sed -n "s/.*culvert\.$1=\([^ ]*\).*/\1/p" /proc/cmdline
}

mkdir -p /proc /sys /lower /upper /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
modprobe virtio_pci
modprobe 9pnet_virtio
modprobe 9p
modprobe overlay
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 host /lower || end 97
# Where the kernel itself looks for modules from now on: it stays in this root.
mount -o bind "/lower$(value kernel)/lib/modules" /lib/modules
mkdir -p /sbin
ln -s /bin/busybox /sbin/modprobe
mount -t tmpfs tmpfs /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root || end 98

cd /root
for dir in proc sys dev run tmp; do umount -l $dir 2>/dev/null; done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p run/netns
cat /proc/version
ip link set lo up

chroot . /bin/sh -c "cd $(value tree) && HOME=/tmp PATH=\$PWD/node_modules/.bin:/usr/sbin:/usr/bin:/sbin:/bin \
    CULVERT_TEST_GENEVE=1 TMPDIR=/tmp CI=1 NO_COLOR=1 node node_modules/vitest/vitest.mjs run --project netns test/netns/bench/geneve.test.ts"
end $?
