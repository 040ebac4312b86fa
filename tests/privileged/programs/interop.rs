//! The kernel's own parts in our places and around us: its geneve device (RFC 8926) for the edge, then for the node; fair
//! queueing at every root; an underlay that loses, delays, repeats and reorders. Both families; every byte is checked.
//! Only where the kernel has the part.

use persona_ctl::dataplane::Hook;

use super::namespace::Namespace;
use super::nat_live::{assert_right_sums, content, exchange, transfer};
use super::path::{Chain, Family};
use crate::peers::interop::{self, FQ, GENEVE, NETEM};

/// Ports of the lease's first block.
const LEASED_PORTS: &str = "5120 6143";

/// What the underlay does, towards the node and towards the edge.
const IMPAIRMENT: &str = "netem delay 2ms 1ms loss 1% duplicate 2% reorder 20% 50%";

/// Transfers of a hundred packets and more, of which one in a hundred is lost: all are spared once in ten thousand million runs.
const MOST_TRANSFERS: u32 = 24;

#[test]
fn the_kernels_geneve_stands_for_the_edge() {
    if interop::lacks(GENEVE) {
        return;
    }
    for family in Family::BOTH {
        let chain = Chain::of(family);
        let node = chain.open_node();
        forward(&chain.edge);
        add_geneve(&chain.edge, family, family.node());
        let lease = if family == Family::V4 { "192.0.2.100/32" } else { "2001:db8:0:77::/64" };
        chain.edge.ip(&format!("route add {lease} dev gnv0"));
        if family == Family::V4 {
            // Nobody answers ARP for the lease: the edge that would is not there.
            chain.server.ip("route add 192.0.2.100/32 via 192.0.2.2");
        }
        exchange(&chain);
        transfer(&chain, &content());
        assert_right_sums(&chain, "geneve for the edge");
        assert!(node.counters().unwrap().drops.is_empty(), "{family:?}: {:?}", node.counters().unwrap().drops);
    }
}

#[test]
fn the_kernels_geneve_stands_for_the_node() {
    if interop::lacks(GENEVE) {
        return;
    }
    for family in Family::BOTH {
        let mut chain = Chain::of(family);
        let edge = chain.open_edge(Hook::Tc);
        forward(&chain.node);
        add_geneve(&chain.node, family, family.edge());
        // Nobody rewrites: the workload has an address of the lease, and ports of a block.
        chain.client = family.leased();
        let (client, server) = (chain.client, family.server());
        let (bits, gateway) = if family == Family::V4 { (32, "10.1.0.1") } else { (128, "fd00:1::1") };
        let no_dad = if family == Family::V4 { "" } else { "nodad" };
        chain.workload.ip(&format!("addr add {client}/{bits} dev eth0 {no_dad}"));
        chain.workload.ip(&format!("route replace default via {gateway} src {client}"));
        chain.workload.write_sysctl("net/ipv4/ip_local_port_range", LEASED_PORTS);
        chain.node.ip(&format!("route add {client}/{bits} dev w0"));
        chain.node.ip(&format!("route add {server}/{bits} dev gnv0"));
        exchange(&chain);
        transfer(&chain, &content());
        assert_right_sums(&chain, "geneve for the node");
        // Nobody clamps the MSS, so the server is told how large a packet may be.
        let drops = edge.counters().unwrap().drops;
        assert!(drops.keys().all(|reason| reason == "too-big"), "{family:?}: {drops:?}");
    }
}

/// `fq` sends each packet at the time that stands in it, which senders that pace themselves set, and drops what is more than
/// ten seconds ahead: what our programs send on must carry a time that it can make something of.
#[test]
fn fair_queueing_at_every_root_sends_what_we_send_on() {
    if interop::lacks(FQ) {
        return;
    }
    for family in Family::BOTH {
        let chain = Chain::of(family);
        let (_node, _edge) = (chain.open_node(), chain.open_edge(Hook::Tc));
        let roots = [(&chain.node, "w0"), (&chain.node, "u0"), (&chain.edge, "i0"), (&chain.edge, "o0")];
        roots.iter().for_each(|(at, device)| tc(at, &format!("qdisc replace dev {device} root fq")));
        (0..8).for_each(|_| exchange(&chain));
        transfer(&chain, &content());
        assert_right_sums(&chain, "fq");
        for (at, device) in roots {
            let (packets, drops) = queue(at, device, "fq");
            assert!(packets > 100 && drops == 0, "{family:?}, {device}: {packets} packets, {drops} dropped");
        }
    }
}

#[test]
fn transfers_are_right_over_a_lossy_reordering_underlay() {
    if interop::lacks(NETEM) {
        return;
    }
    for family in Family::BOTH {
        let chain = Chain::of(family);
        let (_node, _edge) = (chain.open_node(), chain.open_edge(Hook::Tc));
        let roots = [(&chain.node, "u0"), (&chain.edge, "i0")];
        roots.iter().for_each(|(at, device)| tc(at, &format!("qdisc replace dev {device} root {IMPAIRMENT}")));
        // How many packets a transfer takes depends on how they are merged: the underlay's chance decides when it has lost some.
        let spared = |(at, device): &(&Namespace, &str)| queue(at, device, "netem").1 == 0;
        for _ in 0..MOST_TRANSFERS {
            transfer(&chain, &content());
            if !roots.iter().any(spared) {
                break;
            }
        }
        assert_right_sums(&chain, "netem");
        for (at, device) in roots {
            let (packets, drops) = queue(at, device, "netem");
            assert!(drops > 0, "{family:?}, {device}: {packets} packets and none was lost");
        }
    }
}

/// The kernel's device, which carries IP itself and not Ethernet, as our tunnels do; over IPv6 without checksums (RFC 6935),
/// as ours.
fn add_geneve(at: &Namespace, family: Family, remote: std::net::IpAddr) {
    let zero_sums = if family == Family::V4 { "" } else { "udp6zerocsumtx udp6zerocsumrx" };
    at.ip(&format!("link add gnv0 type geneve id 42 remote {remote} dstport 6081 innerprotoinherit {zero_sums}"));
    at.ip("link set gnv0 up mtu 1400");
}

fn forward(at: &Namespace) {
    for (name, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ] {
        at.write_sysctl(name, value);
    }
}

fn tc(at: &Namespace, arguments: &str) {
    let output = at.run(&format!("tc {arguments}"));
    assert!(output.status.success(), "tc {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Packets that a device's root queue has sent, and dropped.
pub(super) fn queue(at: &Namespace, device: &str, kind: &str) -> (u64, u64) {
    let output = at.run(&format!("tc -s -j qdisc show dev {device}"));
    let queues: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let queue = queues.as_array().unwrap().iter().find(|queue| queue["kind"] == kind);
    let queue = queue.unwrap_or_else(|| panic!("{device} has no {kind}: {queues}"));
    (queue["packets"].as_u64().unwrap(), queue["drops"].as_u64().unwrap())
}
