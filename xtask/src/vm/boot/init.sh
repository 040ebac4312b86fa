#!/bin/busybox sh
# The first process of the guest until the disk is there: loads modules, puts what is tested onto the disk, and hands over
# to the system on it, which is systemd.
export PATH=/bin
for name in mount insmod mkdir cp switch_root; do /bin/busybox ln -s busybox "/bin/$name"; done
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
    insmod "$module" || echo "guest: $module cannot be loaded"
done < /modules/order
mount -t ext4 /dev/vda /system || { echo "guest: there is no disk"; exit 1; }
# Only once: what the first boot has made of it is what the second one finds.
[ -e /system/opt/trial/trial.sh ] || cp -a /trial/. /system/
for folder in dev sys proc; do mount --move "/$folder" "/system/$folder"; done
exec switch_root /system /sbin/init
