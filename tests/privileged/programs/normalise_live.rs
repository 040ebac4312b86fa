//! Where a persona puts options in order, connections come about and carry every byte, whatever they agree upon.

use persona_ctl::dataplane::Hook;
use persona_ctl::dataplane::tables::Normalisation;

use super::nat_live::{assert_right_sums, content, transfer};
use super::path::{Chain, Family};
use super::world::{chain as error_chain, is_privileged};

/// What a host may be told not to offer.
const OFFERS: [&str; 3] = ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"];

#[test]
fn connections_of_all_sorts_stand_where_options_are_in_order() {
    if !is_privileged() {
        return;
    }
    let file = content();
    for (family, timestamps) in [(Family::V4, false), (Family::V6, true)] {
        let chain = Chain::of(family);
        let mut node = chain.open_node();
        let edge = chain.open_edge(Hook::Tc);
        let mut tables = chain.node_tables();
        let network = tables.subjects[0].network.as_mut().unwrap();
        network.normalise = Normalisation { options: true, timestamps, ..Normalisation::default() };
        let outcome = chain.node.enter(|| node.apply(&tables));
        outcome.unwrap_or_else(|error| panic!("{}", error_chain(&error)));
        for silent in [&[][..], &OFFERS[..1], &OFFERS[1..2], &OFFERS[2..], &OFFERS] {
            for offer in OFFERS {
                let is_offered = !silent.contains(&offer);
                chain.workload.write_sysctl(&format!("net/ipv4/{offer}"), if is_offered { "1" } else { "0" });
            }
            transfer(&chain, &file);
            assert_right_sums(&chain, &format!("without {silent:?}"));
            let drops = (node.counters().unwrap().drops, edge.counters().unwrap().drops);
            assert!(drops.0.is_empty() && drops.1.is_empty(), "{family:?}, without {silent:?}: {drops:?}");
        }
    }
}
