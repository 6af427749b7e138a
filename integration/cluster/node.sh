# The node's own view of the machine, for its first process: mounts, cgroups, and a way out to the
# outside world, which is the network namespace of process $WORLD. $STATE is the node's folder,
# $CGROUP the name of its cgroup.
set -euo pipefail
hostname node1

# Remounting /sys shows the devices of this network namespace; the cgroups go back below it.
mkdir -p "$STATE/cgroup"
mount --rbind /sys/fs/cgroup "$STATE/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$STATE/cgroup" /sys/fs/cgroup
umount --lazy "$STATE/cgroup"
mount --make-rshared /

# A cgroup of its own in every hierarchy of version 1, or in the one of version 2.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$CGROUP"
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        for file in /sys/fs/cgroup "/sys/fs/cgroup/$CGROUP"; do
            echo "+$controller" > "$file/cgroup.subtree_control" || true
        done
    done
else
    for hierarchy in /sys/fs/cgroup/*/; do
        [ -e "$hierarchy/cgroup.procs" ] && mkdir -p "$hierarchy/$CGROUP"
    done
fi

mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock
: > /run/xtables.lock
own() {
    mkdir -p "$STATE/root$1" "$1"
    mount --bind "$STATE/root$1" "$1"
}
for folder in /var/lib/containerd /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers \
    /opt/cni/bin /etc/cni/net.d /etc/egress-warden-cni /etc/containerd; do
    own "$folder"
done
mount --make-rshared /var/lib/kubelet
cp /usr/lib/cni/* /opt/cni/bin/
cp "$STATE/10-ptp.conflist" /etc/cni/net.d/
for file in hosts resolv.conf; do
    mount --bind "$STATE/$file" "/etc/$file"
done

ip link set lo up
ip link add eth0 type veth peer name eth0 netns "$WORLD"
ip addr add 172.18.0.2/24 dev eth0
ip link set eth0 up
outside() { nsenter --target "$WORLD" --net "$@"; }
outside ip link set lo up
outside ip addr add 172.18.0.1/24 dev eth0
outside ip link set eth0 up
outside ip route add 10.244.0.0/16 via 172.18.0.2
ip route add default via 172.18.0.1
echo 1 > /proc/sys/net/ipv4/ip_forward
