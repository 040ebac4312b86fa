//! The edge by which a subject's flows leave whose rates edges hold: each edge holds them by itself, so that one must carry all.
//!
//! It is the edge that owns the egress address, as edges themselves find out, so that what comes back passes the same one.
//! Where a plan steers, its edge counts; when an edge goes, the group's others carry the flows at once, as ever.

use std::net::IpAddr;

use persona_core::health::EdgeState;
use persona_core::ids::{EdgeName, EdgeNumber};
use persona_core::ownership::owner;

use crate::store::{AgentRecord, EdgeDetails, LeaseRecord, Snapshot};

/// The edge that holds the rates of who uses this lease for new flows, if one of its group serves.
pub(super) fn edge_of(snapshot: &Snapshot, lease: &LeaseRecord) -> Option<EdgeName> {
    let serves = |edge: &EdgeDetails| {
        edge.group == lease.group
            && edge.state == EdgeState::Up
            && !edge.is_emptied()
            && !edge.is_leaving
            && edge.weight > 0
    };
    let edges: Vec<(EdgeNumber, &AgentRecord)> = snapshot
        .edges()
        .filter_map(|agent| agent.edge().filter(|edge| serves(edge)).map(|edge| (edge.number, agent.as_ref())))
        .collect();
    let numbers: Vec<EdgeNumber> = edges.iter().map(|(number, _)| *number).collect();
    let owner = owner(address_of(snapshot, lease)?, &numbers)?;
    edges.iter().find(|(number, _)| *number == owner).and_then(|(_, agent)| agent.id.name.parse().ok())
}

/// What edges answer for so that packets to the lease come: its address, or the next hop of its pool.
fn address_of(snapshot: &Snapshot, lease: &LeaseRecord) -> Option<IpAddr> {
    let of_pool = || snapshot.pool(&lease.pool)?.spec.next_hop6.map(IpAddr::V6);
    lease.space.address().map(IpAddr::V4).or_else(of_pool)
}
