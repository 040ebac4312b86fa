//! `guard` on both families: managed ranges, managed devices, everything that is forwarded.

use persona_common::{BYPASS_MARK, PERSONA_MARK};

use super::frames::{Ip, MAC_A, MAC_B, ethernet};
use super::frames6::Ip6;
use super::namespace::Namespace;
use super::node6_world::*;
use super::run::{Facts, TC_DROP, TC_NEXT, run_tc};
use super::world::{LOOPBACK, World, is_privileged};

/// Comes in by a device that is no workload's.
const FORWARDED: Facts = Facts { mark: 0, priority: 0, ingress_ifindex: 77, gso_segs: 0, gso_size: 0 };

#[test]
fn the_guard_watches_ranges_and_devices_of_both_families() {
    let mut tables = tables(over4());
    tables.managed = vec![(v6("fd00:1::").into(), 64), ([10, 1, 0, 0].into(), 24)];
    with_node(&tables, |node| {
        let managed = ethernet(0x86dd, &from_workload().udp(1, 2, b""));
        let managed4 = ethernet(0x0800, &Ip::new([10, 1, 0, 9].into(), [203, 0, 113, 5].into(), 17).udp(1, 2, b""));
        let other = ethernet(0x86dd, &Ip6::new(v6("fd00:2::1"), server6()).udp(1, 2, b""));
        let tagged = [&MAC_B[..], &MAC_A, &[0x81, 0, 0, 5], &managed[12..]].concat();
        let solicitation = Ip6 { hop_limit: 255, ..from_workload() }.icmp(135, 0, &[0; 20]);
        let routed = Ip6 { hop_limit: 254, ..from_workload() }.icmp(135, 0, &[0; 20]);
        let from_device = Facts { ingress_ifindex: LOOPBACK, ..Facts::default() };
        for (what, frame, facts, verdict) in [
            ("local", &managed, Facts::default(), TC_NEXT),
            ("managed range", &managed, FORWARDED, TC_DROP),
            ("managed IPv4 range", &managed4, FORWARDED, TC_DROP),
            ("managed range behind a tag", &tagged, FORWARDED, TC_DROP),
            ("other range", &other, FORWARDED, TC_NEXT),
            ("managed device", &other, from_device, TC_DROP),
            ("neighbour discovery", &ethernet(0x86dd, &solicitation), FORWARDED, TC_NEXT),
            ("the like of it, routed", &ethernet(0x86dd, &routed), FORWARDED, TC_DROP),
            ("ARP", &ethernet(0x0806, &[0; 46]), from_device, TC_NEXT),
            ("tunnel", &managed, Facts { mark: PERSONA_MARK, ..FORWARDED }, TC_NEXT),
            ("bypass", &managed, Facts { mark: BYPASS_MARK, ..FORWARDED }, TC_NEXT),
        ] {
            assert_eq!(run_tc(node.programs(), "guard", frame, facts).verdict, verdict, "{what}");
        }
        assert_eq!(node.counters().unwrap().drops["guarded"], 5);
    });
}

#[test]
fn the_guard_over_all_forwarded_lets_discovery_through() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("guard6");
    let world = World::new();
    namespace.enter(|| {
        let node = world.guarded_node();
        let discovery = Ip6 { hop_limit: 255, ..Ip6::new(v6("fe80::1"), v6("ff02::1:ff00:1")) }.icmp(135, 0, &[0; 20]);
        let plain = Ip6::new(v6("fd00:2::1"), server6()).udp(1, 2, b"");
        for (frame, verdict) in [(discovery, TC_NEXT), (plain, TC_DROP)] {
            assert_eq!(run_tc(node.programs(), "guard", &ethernet(0x86dd, &frame), FORWARDED).verdict, verdict);
        }
    });
}
