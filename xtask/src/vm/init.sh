#!/bin/busybox sh
# The first process of a guest: makes what the tests expect of a host, runs them, says how they ended, switches off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mkdir() { busybox mkdir -p "$@"; }
mkdir /bin /sbin /usr/bin /usr/sbin
# Only where the host gave no program of that name.
for name in $(/bin/busybox --list); do
    for folder in /bin /sbin /usr/bin /usr/sbin; do
        if [ -e "$folder/$name" ]; then name=; break; fi
    done
    if [ -n "$name" ]; then busybox ln -s busybox "/bin/$name"; fi
done
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir /dev/shm /dev/pts /dev/net
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
busybox ln -sf /proc/self/fd /dev/fd
ip link set lo up
while read -r module; do
    insmod "$module" || echo "guest: $module cannot be loaded"
done < /modules/order
. /tests/environment
echo "guest: kernel $(uname -r), up after $(cut -d' ' -f1 /proc/uptime) s"
set --
while read -r argument; do
    set -- "$@" "$argument"
done < /tests/arguments
cd /root
/tests/privileged "$@" < /dev/null 2>&1
status=$?
echo "guest: time of the shell, and of the tests, in user mode and in the kernel"
times
echo "guest: tests ended with status $status"
sync
poweroff -f
