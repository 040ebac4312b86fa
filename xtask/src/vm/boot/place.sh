#!/bin/sh
# Where the trial takes place: one host with systemd, whose manager and edge live in network namespaces.
#
#   web 10.10.0.2 -- veth-web [host] up0 .11 --+-- in0 .21 [edge] out0 .11 -- 203.0.113.0/24 -- .1 [internet] 198.51.100.10
#                                              +-- m0  .1  [manager]
#   front 10.8.0.2 -- front0 [host] back0 -- 10.9.0.2 back
set -e
segment() { ip netns add "$1"; ip -n "$1" link add br0 type bridge forward_delay 0; ip -n "$1" link set br0 up; }
# connect NETNS DEVICE ADDRESS SEGMENT: a device of that namespace on that segment; "" is the host itself.
connect() {
    ip link add "$2" type veth peer name "p-$2" netns "$4"
    ip -n "$4" link set "p-$2" master br0 up
    if [ -n "$1" ]; then ip link set "$2" netns "$1"; fi
    ip ${1:+-n "$1"} address add "$3" dev "$2"
    ip ${1:+-n "$1"} link set "$2" up
}
segment underlay
segment outside
for name in manager edge internet web front back; do ip netns add "$name"; ip -n "$name" link set lo up; done
connect "" up0 10.0.0.11/24 underlay
connect manager m0 10.0.0.1/24 underlay
connect edge in0 10.0.0.21/24 underlay
connect edge out0 203.0.113.11/24 outside
connect internet seg0 203.0.113.1/24 outside
ip -n internet address add 198.51.100.10/32 dev lo
ip link add veth-web type veth peer name eth0 netns web
ip address add 10.10.0.1/24 dev veth-web
ip link set veth-web up
ip -n web address add 10.10.0.2/24 dev eth0
ip -n web link set eth0 up
ip -n web route add default via 10.10.0.1
for end in front:10.8.0 back:10.9.0; do
    name=${end%:*} net=${end#*:}
    ip link add "${name}0" type veth peer name eth0 netns "$name"
    ip address add "$net.1/24" dev "${name}0"
    ip link set "${name}0" up
    ip -n "$name" address add "$net.2/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" route add default via "$net.1"
done
echo 1 > /proc/sys/net/ipv4/ip_forward
