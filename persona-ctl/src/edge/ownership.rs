//! Which addresses this edge answers for, and whether routes lead to it, given what it knows of itself and its peers.
//!
//! Every edge of the group computes the same from the same knowledge. Two owners for a moment do no harm, because
//! either can carry any packet; no owner would.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use persona_core::ids::EdgeNumber;
use persona_core::ownership::owner;
use persona_core::units::Cidr;

/// What an edge knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Situation {
    /// Its own number, once the manager has said so.
    pub own: Option<EdgeNumber>,
    /// Whether the manager counts it as in service and does not empty it.
    pub in_service: bool,
    /// Whether the outside next hop answers.
    pub is_outside_alive: bool,
    /// Whether a next hop towards the nodes answers.
    pub is_inside_alive: bool,
    /// Whether the lease table may be believed.
    pub is_current: bool,
    /// Nodes that were heard within the probes' limit.
    pub heard_nodes: BTreeSet<IpAddr>,
    /// The other edges of the group.
    pub peers: BTreeMap<EdgeNumber, Peer>,
    /// The group's egress addresses, and the next hops that its IPv6 pools are routed to.
    pub addresses: BTreeSet<IpAddr>,
    /// Ranges of all that comes from outside for the group.
    pub ranges: BTreeSet<Cidr>,
}

/// A peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Peer {
    /// Whether the manager counts it as in service and does not empty it.
    pub in_service: bool,
    /// Whether it answers probes, which it does only while its own outside is alive.
    pub is_alive: bool,
}

impl Situation {
    /// Whether a peer, a node or a next hop towards the nodes is reached.
    pub(super) fn reaches_someone(&self) -> bool {
        self.is_inside_alive || !self.heard_nodes.is_empty() || self.peers.values().any(|peer| peer.is_alive)
    }
}

/// Why nothing that comes from outside shall come to this edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    /// It is none of its group's edges.
    #[error("the manager has not put it into its group")]
    Unknown,
    /// The way out is dead.
    #[error("the outside next hop is silent")]
    Outside,
    /// It was cut off, and leases may have changed hands.
    #[error("its lease table may be old: it was cut off and has not caught up")]
    Outdated,
    /// The way in is dead.
    #[error("it reaches no node, no peer and no next hop towards the nodes")]
    CutOff,
    /// Others are there to take everything.
    #[error("it is being emptied or out of service, and others serve")]
    Emptied,
}

/// Why this edge is not to serve what comes from outside, if there is a reason. Routes to it are announced while there is
/// none: any edge of a group can carry any packet.
pub(super) fn obstacle(situation: &Situation) -> Option<Obstacle> {
    let Some(own) = situation.own else { return Some(Obstacle::Unknown) };
    let obstacles = [
        (!situation.is_outside_alive, Obstacle::Outside),
        (!situation.reaches_someone(), Obstacle::CutOff),
        (!situation.is_current, Obstacle::Outdated),
        (!candidates(situation, own).contains(&own), Obstacle::Emptied),
    ];
    obstacles.into_iter().find_map(|(is_there, obstacle)| is_there.then_some(obstacle))
}

/// The addresses to answer for.
pub(super) fn owned(situation: &Situation) -> BTreeSet<IpAddr> {
    let Some(own) = situation.own.filter(|_| obstacle(situation).is_none()) else { return BTreeSet::new() };
    let candidates = candidates(situation, own);
    let is_own = |address: &&IpAddr| owner(**address, &candidates) == Some(own);
    situation.addresses.iter().filter(is_own).copied().collect()
}

/// Edges that are alive and in service; if the manager has taken all out of service, those that are alive.
fn candidates(situation: &Situation, own: EdgeNumber) -> Vec<EdgeNumber> {
    let own = (own, Peer { in_service: situation.in_service, is_alive: true });
    let peers = situation.peers.iter().map(|(number, peer)| (*number, *peer));
    let alive: BTreeMap<EdgeNumber, Peer> = peers.chain([own]).filter(|(_, peer)| peer.is_alive).collect();
    let in_service: Vec<EdgeNumber> =
        alive.iter().filter(|(_, peer)| peer.in_service).map(|(number, _)| *number).collect();
    if in_service.is_empty() { alive.keys().copied().collect() } else { in_service }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Egress addresses and next hops of IPv6 pools by turns.
    fn address(number: u8) -> IpAddr {
        if number.is_multiple_of(2) {
            IpAddr::from([203, 0, 113, number])
        } else {
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()])
        }
    }

    fn situation(own: u16, peers: &[(u16, bool, bool)]) -> Situation {
        let peer = |(number, in_service, is_alive): &(u16, bool, bool)| {
            (EdgeNumber(*number), Peer { in_service: *in_service, is_alive: *is_alive })
        };
        Situation {
            own: Some(EdgeNumber(own)),
            in_service: true,
            is_outside_alive: true,
            is_inside_alive: true,
            is_current: true,
            peers: peers.iter().map(peer).collect(),
            addresses: (1..=64).map(address).collect(),
            ..Situation::default()
        }
    }

    #[test]
    fn every_address_has_one_owner() {
        let one = owned(&situation(1, &[(2, true, true)]));
        let two = owned(&situation(2, &[(1, true, true)]));
        assert!(one.is_disjoint(&two) && one.len() + two.len() == 64, "{} and {}", one.len(), two.len());
    }

    #[test]
    fn who_owns_what() {
        let alone = |change: fn(&mut Situation)| {
            let mut situation = situation(1, &[(2, true, false)]);
            change(&mut situation);
            (owned(&situation).len(), obstacle(&situation))
        };
        type Case = (&'static str, fn(&mut Situation), usize, Option<Obstacle>);
        let cases: [Case; 9] = [
            ("a survivor owns everything", |_| {}, 64, None),
            ("without its outside an edge owns nothing", |s| s.is_outside_alive = false, 0, Some(Obstacle::Outside)),
            ("an edge that has not caught up owns nothing", |s| s.is_current = false, 0, Some(Obstacle::Outdated)),
            ("an edge that reaches nobody owns nothing", |s| s.is_inside_alive = false, 0, Some(Obstacle::CutOff)),
            (
                "an edge that hears a node owns what its peers do not",
                |s| {
                    s.is_inside_alive = false;
                    s.heard_nodes.insert(IpAddr::from([10, 0, 0, 1]));
                },
                64,
                None,
            ),
            ("an edge without a number owns nothing", |s| s.own = None, 0, Some(Obstacle::Unknown)),
            ("the last edge alive owns everything even when drained", |s| s.in_service = false, 64, None),
            (
                "a drained edge leaves everything to its peers",
                |s| {
                    s.in_service = false;
                    s.peers.insert(EdgeNumber(2), Peer { in_service: true, is_alive: true });
                },
                0,
                Some(Obstacle::Emptied),
            ),
            (
                "a drained peer gets nothing",
                |s| {
                    s.peers.insert(EdgeNumber(2), Peer { in_service: false, is_alive: true });
                },
                64,
                None,
            ),
        ];
        for (what, change, count, obstacle) in cases {
            assert_eq!(alone(change), (count, obstacle), "{what}");
        }
    }
}
