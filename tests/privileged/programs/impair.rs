//! A network that is made worse on purpose (`spec.network.impair.loss`): so many packets are lost, both ways, and counted.

use persona_common::node::DELAYED_CLASS;

use super::frames::Ip;
use super::nat_world::*;
use super::node6_world::{
    back, from_lease, from_workload as from_workload6, leased6, network, out, over4, tables, with_node,
};
use super::run::{TC_DROP, TC_NEXT, TC_REDIRECT};

/// Packets that are sent each way; less where the processor is emulated.
fn packet_count() -> u64 {
    if std::env::var_os("PERSONA_TEST_EMULATED").is_some() { 400 } else { 4_000 }
}

fn losing(loss_millionths: u32) -> Wish {
    let mut wish = Wish::default();
    wish.egress.impair.loss_millionths = loss_millionths;
    wish
}

/// How many of the packets are lost, when all must go on that are not.
fn lost(count: u64, mut send: impl FnMut() -> Result<Vec<u8>, String>) -> u64 {
    let mut lost = 0;
    for _ in 0..count {
        match send() {
            Ok(_) => {}
            Err(reason) => {
                assert_eq!(reason, "impaired");
                lost += 1;
            }
        }
    }
    lost
}

#[test]
fn as_many_packets_are_lost_as_the_persona_says() {
    // Seven standard deviations of a binomial count: less than one run in a thousand million is unlucky.
    let is_likely = |count: u64, share: f64| {
        let expected = packet_count() as f64 * share;
        (count as f64 - expected).abs() <= 7.0 * (expected * (1.0 - share)).sqrt()
    };
    for (millionths, share) in [(0, 0.0), (100_000, 0.1), (500_000, 0.5), (1_000_000, 1.0)] {
        with_nat(&losing(millionths), |nat| {
            let sent = from_workload(17).udp(INNER_PORT, 9, b"x");
            let outward = lost(packet_count(), || nat.out(&sent));
            let came = from_server(17).udp(9, OUTER_PORT, b"x");
            let inward = lost(packet_count(), || nat.inward(&came));
            assert!(is_likely(outward, share) && is_likely(inward, share), "{millionths}: {outward}, {inward}");
            let total = nat.node.counters().unwrap().subjects[&persona_core::ids::SubjectNumber(7)];
            let counted = (total.traffic.egress_packets, total.traffic.ingress_packets);
            assert_eq!(counted, (packet_count() - outward, packet_count() - inward), "what is lost is no traffic");
            assert_eq!(total.dropped_packet_count, outward + inward, "but its subject's");
        });
    }
}

#[test]
fn what_is_no_packet_of_the_persona_is_not_lost() {
    with_nat(&losing(1_000_000), |nat| {
        let near = Ip { destination: [10, 1, 0, 9].into(), ..from_workload(17) }.udp(INNER_PORT, 9, b"x");
        assert_eq!(nat.run_out(&near).verdict, TC_NEXT, "a near destination");
        // The sender of what is too big is told as ever.
        let large = Ip { dont_fragment: true, ..from_workload(17) }.udp(INNER_PORT, 9, &[0; 1_400]);
        assert_eq!(nat.run_out(&large).verdict, TC_REDIRECT);
        assert_eq!(nat.drops().get("impaired"), None);
    });
}

#[test]
fn packets_to_a_delayed_subject_name_their_class() {
    for is_delayed in [false, true] {
        let mut wish = Wish::default();
        wish.egress.impair.is_delayed = is_delayed;
        with_nat(&wish, |nat| {
            nat.out(&from_workload(17).udp(INNER_PORT, 9, b"x")).unwrap();
            let outcome = nat.run_in(&from_server(17).udp(9, OUTER_PORT, b"x"));
            let class = if is_delayed { DELAYED_CLASS } else { 0 };
            assert_eq!((outcome.verdict, outcome.priority), (TC_REDIRECT, class));
        });
    }
}

#[test]
fn ipv6_packets_are_lost_both_ways() {
    let mut tables = tables(over4());
    network(&mut tables).impair.loss_millionths = 1_000_000;
    with_node(&tables, |node| {
        assert_eq!(out(node, &from_workload6().udp(4000, 53, b"x")).verdict, TC_DROP);
        let answer = super::frames6::Ip6::new(from_lease().destination, leased6()).udp(53, 4000, b"x");
        assert_eq!(back(node, over4(), &answer).verdict, TC_DROP);
        assert_eq!(node.counters().unwrap().drops["impaired"], 2);
        // The sender of what is too big is told as ever.
        let outcome = out(node, &from_workload6().udp(4000, 53, &[0; 1_400]));
        assert_eq!(outcome.verdict, TC_REDIRECT);
    });
}
