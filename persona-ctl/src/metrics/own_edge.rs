//! What an edge tells of itself, as metrics.

use prometheus_client::registry::Unit;

use super::family::{Family, Labels};
use super::snapshot::OwnEdgeSample;
use super::text::{bytes, packets};

/// What it carried.
pub(super) fn counters(own: &OwnEdgeSample) -> [Family<u64>; 2] {
    let carried = || (("edge", own.edge.clone()), own.carried);
    [
        Family {
            name: "edge_packets",
            help: "Packets that the edge carried",
            unit: None,
            samples: packets(carried()).into(),
        },
        Family {
            name: "edge_inner",
            help: "Inner IP bytes that the edge carried",
            unit: Some(Unit::Bytes),
            samples: bytes(carried()).into(),
        },
    ]
}

/// What it holds, hears and answers for.
pub(super) fn gauges(own: &OwnEdgeSample) -> [Family<f64>; 7] {
    let count = |count: usize| vec![(Labels::new(), count as f64)];
    let truth = |is_so: bool| (Labels::new(), f64::from(u8::from(is_so)));
    let state = |state: &str, count: usize| (vec![("state", state.to_owned())], count as f64);
    let nodes = vec![state("heard", own.heard_node_count), state("silent", own.silent_node_count)];
    let capacity = own.capacity_bits_per_sec.map(|bits| (Labels::new(), bits as f64));
    let gauge = |name, help, samples| Family { name, help, unit: None, samples };
    [
        gauge("leases", "Leases in the edge's table", count(own.lease_count)),
        gauge("owned_addresses", "Egress addresses and next hops that the edge answers for", count(own.owned_count)),
        gauge(
            "announced_ranges",
            "Ranges that routes to the edge are announced for",
            own.announced_count.into_iter().flat_map(count).collect(),
        ),
        gauge("nodes", "Nodes that the edge should hear, by whether it does", nodes),
        gauge(
            "outside_alive",
            "Whether the outside next hop answers",
            own.is_outside_alive.map(truth).into_iter().collect(),
        ),
        gauge("draining", "Whether new flows avoid the edge", vec![truth(own.is_draining)]),
        gauge(
            "capacity_bits_per_second",
            "What the edge is said to carry, both directions together",
            capacity.into_iter().collect(),
        ),
    ]
}
