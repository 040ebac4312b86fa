//! Which edge a flow takes: the choices of its row in the Maglev table, then other rows, then none.

use persona_common::addr::address_be;
use persona_common::flow::{ROW_WALK_MAX, ROW_WALK_STEP, UDP, flow_hash, row_of_hash};
use persona_common::maps::MAGLEV_ROW_COUNT;
use persona_core::ids::{EdgeNumber, Generation};
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::tables::{EdgeEntry, NodeTables};

use super::frames::{Ip, ethernet};
use super::namespace::Namespace;
use super::node_packets::{EGRESS, SERVER, WORKLOAD, tables};
use super::run::{Facts, TC_DROP, TC_REDIRECT, new_drops, run_tc};
use super::world::{LOOPBACK, World, is_privileged};

const INNER_PORT: u16 = 40_000;
const OUTER_PORT: u16 = (5 << 10) + (40_000 & 1023);

/// The leases' generation.
const CURRENT: Generation = Generation(3);

/// The row of the test's flow, and the rows that are walked after it.
fn rows() -> Vec<usize> {
    let ports = u32::from(OUTER_PORT) << 16 | 53;
    let hash = flow_hash(address_be(EGRESS.octets()), address_be(SERVER.octets()), ports, UDP);
    let first = row_of_hash(hash, MAGLEV_ROW_COUNT);
    (0..ROW_WALK_MAX).map(|step| ((first + step * ROW_WALK_STEP) % MAGLEV_ROW_COUNT) as usize).collect()
}

/// Edges 1 to 5: the flow's row has 1 and 2, the next row of the walk 3 and 4, all later ones 5, rows off the walk 6.
fn walked_tables() -> NodeTables {
    let mut tables = tables();
    tables.edges = (1..=6).map(edge).collect();
    let walk = rows();
    let table = &mut tables.groups[0].rows;
    table.fill((EdgeNumber(6), EdgeNumber(6)));
    table[walk[0]] = (EdgeNumber(1), EdgeNumber(2));
    table[walk[1]] = (EdgeNumber(3), EdgeNumber(4));
    walk[2..].iter().for_each(|row| table[*row] = (EdgeNumber(5), EdgeNumber(5)));
    tables
}

fn edge(number: u16) -> EdgeEntry {
    let address = std::net::Ipv4Addr::new(10, 0, 0, 10 + number as u8).into();
    EdgeEntry { number: EdgeNumber(number), address, ifindex: LOOPBACK, next_hop: address }
}

/// The edge that a packet of the flow is sent to, or why to none.
fn chosen(node: &NodeDataplane) -> Result<u8, String> {
    let before = node.counters().unwrap().drops;
    let frame = ethernet(0x0800, &Ip::new(WORKLOAD, SERVER, 17).udp(INNER_PORT, 53, b"x"));
    let outcome = run_tc(node.programs(), "from_workload", &frame, Facts::default());
    if outcome.verdict == TC_DROP {
        return Err(new_drops(&before, &node.counters().unwrap().drops)[0].0.clone());
    }
    assert_eq!(outcome.verdict, TC_REDIRECT);
    let inner_port = [outcome.bytes[70], outcome.bytes[71]];
    assert_eq!(inner_port, OUTER_PORT.to_be_bytes(), "whatever the edge, the flow keeps its port");
    // The last byte of the tunnel's destination.
    Ok(outcome.bytes[33] - 10)
}

#[test]
fn the_second_choice_and_then_the_walk() {
    if !is_privileged() {
        return;
    }
    let (world, namespace) = (World::new(), Namespace::new("edges"));
    namespace.enter(|| {
        let mut node = world.node();
        node.apply(&walked_tables()).unwrap();
        let set = |number, alive, generation| node.set_edge_liveness(EdgeNumber(number), alive, generation).unwrap();
        (1..=6).for_each(|number| set(number, true, CURRENT));
        assert_eq!(chosen(&node), Ok(1), "the first choice");
        set(1, false, CURRENT);
        assert_eq!(chosen(&node), Ok(2), "dead: the second");
        set(1, true, Generation(2));
        assert_eq!(chosen(&node), Ok(2), "alive, but its table does not have the lease yet");
        set(1, true, Generation(4));
        assert_eq!(chosen(&node), Ok(1), "a later table has it too");
        set(1, false, CURRENT);
        set(2, false, CURRENT);
        assert_eq!(chosen(&node), Ok(3), "both are dead: the next row of the walk");
        set(3, true, Generation(2));
        assert_eq!(chosen(&node), Ok(4), "and its second choice");
        set(4, false, CURRENT);
        assert_eq!(chosen(&node), Ok(5), "and on");
        set(5, false, CURRENT);
        assert_eq!(chosen(&node), Err("no-edge".to_owned()), "an edge off the walk is not found");
        set(2, true, CURRENT);
        assert_eq!(chosen(&node), Ok(2), "it is back");
    });
}
