//! A lease's life, as a function of what was acknowledged and what time it is.
//!
//! ```text
//! publishing ──every serving edge knows it──▶ active ──not wanted──▶ retiring ──last flow ended──▶ revoking (node)
//!     │                                         ▲──────wanted again──────┘ └───grace is over: cut────▶│ forgot it
//!     └──not wanted: the node never saw it──▶ revoking (edges) ◀───────────────────────────────────────┘
//!                                               └──every edge forgot it or is fenced──▶ quarantine ──time──▶ free
//! ```
//!
//! Nothing here ends a lease because somebody is silent: a node that is unreachable keeps its flows. Flows are cut only
//! where a grace was set, by the persona or by who switched, and by the node itself, when it forgets the lease.

use serde::{Deserialize, Serialize};

use crate::ids::Generation;

/// Where a lease is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeaseState {
    /// The edges are learning it; the node does not know it yet.
    Publishing,
    /// The node may use it for new flows.
    Active,
    /// Old flows go on, new ones do not use it.
    Retiring {
        /// The generation that told the node so.
        since: Generation,
        /// When what is left of them is cut. Absent: they go on until they end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut_at_ms: Option<u64>,
    },
    /// The node is forgetting it.
    RevokingNode {
        /// The generation without it.
        since: Generation,
    },
    /// The edges are forgetting it.
    RevokingEdges {
        /// The generation without it.
        since: Generation,
    },
    /// Nobody holds it; its blocks rest until late packets have died out.
    Quarantine {
        /// When its blocks are free.
        free_at_ms: u64,
    },
}

impl LeaseState {
    /// The name people see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Active => "active",
            Self::Retiring { .. } => "retiring",
            Self::RevokingNode { .. } | Self::RevokingEdges { .. } => "revoking",
            Self::Quarantine { .. } => "quarantine",
        }
    }

    /// Whether the node has it in its desired state.
    pub fn is_at_node(self) -> bool {
        matches!(self, Self::Active | Self::Retiring { .. })
    }

    /// Whether the edges of its group have it in their desired states.
    pub fn is_at_edges(self) -> bool {
        matches!(self, Self::Publishing | Self::Active | Self::Retiring { .. } | Self::RevokingNode { .. })
    }

    /// Whether a subject that wants it again may have it.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Publishing | Self::Active | Self::Retiring { .. })
    }
}

/// What one edge of the lease's group acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeAck {
    /// The generation in force there.
    pub applied: Generation,
    /// Whether all that is published for it is in force there, and the lease is not in it.
    pub has_forgotten: bool,
    /// Whether it serves: nodes may send flows through it.
    pub serves: bool,
    /// Whether it is fenced: out of all tables, answering for nothing, and it must acknowledge everything before it
    /// serves again ([`crate::health::fence`]).
    pub fenced: bool,
}

impl EdgeAck {
    fn is_rid_of(&self, since: Generation) -> bool {
        self.fenced || self.has_forgotten || self.applied >= since
    }
}

/// What a step depends on.
#[derive(Debug, Clone, Copy)]
pub struct LeaseFacts<'a> {
    /// Whether its subject wants it: for new flows, or until the lease that follows it is active.
    pub wanted: bool,
    /// The generation in which the edges first learnt of it.
    pub generation: Generation,
    /// The generation in force at its node.
    pub node_applied: Generation,
    /// The generation in force at its node when the node reported it as drained.
    pub drained_at: Option<Generation>,
    /// The edges of its group.
    pub edges: &'a [EdgeAck],
    /// The generation that the changes of this pass will have.
    pub next: Generation,
    /// How long its last flows may go on. None: until they end.
    pub grace_ms: Option<u64>,
    /// How long its blocks rest.
    pub quarantine_ms: u64,
    /// Now.
    pub now_ms: u64,
}

/// What happens to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStep {
    /// Nothing.
    Stay,
    /// It goes to another state.
    To(LeaseState),
    /// Its blocks are free.
    Free,
}

/// Decides a lease's next step.
pub fn step(state: LeaseState, facts: &LeaseFacts<'_>) -> LeaseStep {
    let next = facts.next;
    match state {
        LeaseState::Publishing if !facts.wanted => LeaseStep::To(LeaseState::RevokingEdges { since: next }),
        LeaseState::Publishing if is_known_by_edges(facts) => LeaseStep::To(LeaseState::Active),
        LeaseState::Active if !facts.wanted => {
            let cut_at_ms = facts.grace_ms.map(|grace_ms| facts.now_ms.saturating_add(grace_ms));
            LeaseStep::To(LeaseState::Retiring { since: next, cut_at_ms })
        }
        LeaseState::Retiring { .. } if facts.wanted => LeaseStep::To(LeaseState::Active),
        LeaseState::Retiring { since, .. } if facts.drained_at.is_some_and(|at| at >= since) => {
            LeaseStep::To(LeaseState::RevokingNode { since: next })
        }
        LeaseState::Retiring { cut_at_ms: Some(at_ms), .. } if facts.now_ms >= at_ms => {
            LeaseStep::To(LeaseState::RevokingNode { since: next })
        }
        LeaseState::RevokingNode { since } if facts.node_applied >= since => {
            LeaseStep::To(LeaseState::RevokingEdges { since: next })
        }
        LeaseState::RevokingEdges { since } if facts.edges.iter().all(|edge| edge.is_rid_of(since)) => {
            LeaseStep::To(LeaseState::Quarantine { free_at_ms: facts.now_ms + facts.quarantine_ms })
        }
        LeaseState::Quarantine { free_at_ms } if facts.now_ms >= free_at_ms => LeaseStep::Free,
        _ => LeaseStep::Stay,
    }
}

/// At least one edge serves, and each that serves knows the lease.
fn is_known_by_edges(facts: &LeaseFacts<'_>) -> bool {
    let mut serving = facts.edges.iter().filter(|edge| edge.serves).peekable();
    serving.peek().is_some() && serving.all(|edge| edge.applied >= facts.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// State, wanted, node applied, drained at, edges, now → step.
    type Case<'a> = (LeaseState, bool, u64, Option<u64>, &'a [EdgeAck], u64, LeaseStep);

    fn at(number: u64) -> Generation {
        Generation::new(1, number)
    }

    fn edge(applied: u64, kind: &str) -> EdgeAck {
        let (serves, fenced) = (kind == "serves", kind == "fenced");
        EdgeAck { applied: at(applied), has_forgotten: kind == "left", serves, fenced }
    }

    fn retiring(since: u64, cut_at_ms: Option<u64>) -> LeaseState {
        LeaseState::Retiring { since: at(since), cut_at_ms }
    }

    fn facts<'a>(wanted: bool, edges: &'a [EdgeAck], now_ms: u64) -> LeaseFacts<'a> {
        LeaseFacts {
            wanted,
            generation: at(5),
            node_applied: at(0),
            drained_at: None,
            edges,
            next: at(9),
            grace_ms: None,
            quarantine_ms: 100,
            now_ms,
        }
    }

    #[test]
    fn a_grace_sets_the_time_of_the_cut() {
        for (grace_ms, cut_at_ms) in
            [(None, None), (Some(0), Some(7)), (Some(30), Some(37)), (Some(u64::MAX), Some(u64::MAX))]
        {
            let facts = LeaseFacts { grace_ms, ..facts(false, &[], 7) };
            assert_eq!(step(LeaseState::Active, &facts), LeaseStep::To(retiring(9, cut_at_ms)), "{grace_ms:?}");
        }
    }

    #[test]
    fn a_lease_of_an_earlier_release_is_read() {
        let state: LeaseState = serde_json::from_str(r#"{"retiring":{"since":1099511627781}}"#).unwrap();
        assert_eq!(state, retiring(5, None));
    }

    #[test]
    fn a_lease_takes_each_step_only_when_it_may() {
        use LeaseState::*;
        let (serving, lagging) = ([edge(5, "serves"), edge(6, "serves")], [edge(5, "serves"), edge(4, "serves")]);
        let fenced = [edge(5, "serves"), edge(1, "fenced")];
        let joining = [edge(5, "serves"), edge(1, "new")];
        let left = [edge(5, "serves"), edge(4, "left")];
        let none: [EdgeAck; 1] = [edge(9, "fenced")];
        let since = at(5);
        let cases: &[Case<'_>] = &[
            (Publishing, true, 0, None, &serving, 0, LeaseStep::To(Active)),
            (Publishing, true, 0, None, &lagging, 0, LeaseStep::Stay),
            (Publishing, true, 0, None, &fenced, 0, LeaseStep::To(Active)),
            (Publishing, true, 0, None, &joining, 0, LeaseStep::To(Active)),
            (Publishing, true, 0, None, &none, 0, LeaseStep::Stay),
            (Publishing, false, 0, None, &serving, 0, LeaseStep::To(RevokingEdges { since: at(9) })),
            (Active, true, 0, None, &none, 0, LeaseStep::Stay),
            (Active, false, 0, None, &serving, 0, LeaseStep::To(retiring(9, None))),
            (retiring(5, None), false, 9, None, &serving, u64::MAX / 2, LeaseStep::Stay),
            (retiring(5, None), false, 9, Some(4), &serving, 0, LeaseStep::Stay),
            (retiring(5, None), false, 9, Some(5), &serving, 0, LeaseStep::To(RevokingNode { since: at(9) })),
            (retiring(5, None), true, 9, Some(5), &serving, 0, LeaseStep::To(Active)),
            (retiring(5, Some(70)), false, 0, None, &serving, 69, LeaseStep::Stay),
            (retiring(5, Some(70)), false, 0, None, &serving, 70, LeaseStep::To(RevokingNode { since: at(9) })),
            (retiring(5, Some(70)), false, 9, Some(5), &serving, 0, LeaseStep::To(RevokingNode { since: at(9) })),
            (retiring(5, Some(70)), true, 9, None, &serving, 70, LeaseStep::To(Active)),
            (RevokingNode { since }, false, 4, None, &serving, 0, LeaseStep::Stay),
            (RevokingNode { since }, false, 5, None, &serving, 0, LeaseStep::To(RevokingEdges { since: at(9) })),
            (RevokingEdges { since }, false, 0, None, &lagging, 0, LeaseStep::Stay),
            (RevokingEdges { since }, false, 0, None, &joining, 0, LeaseStep::Stay),
            (RevokingEdges { since }, false, 0, None, &fenced, 7, LeaseStep::To(Quarantine { free_at_ms: 107 })),
            (RevokingEdges { since }, false, 0, None, &left, 7, LeaseStep::To(Quarantine { free_at_ms: 107 })),
            (Quarantine { free_at_ms: 107 }, false, 0, None, &serving, 106, LeaseStep::Stay),
            (Quarantine { free_at_ms: 107 }, false, 0, None, &serving, 107, LeaseStep::Free),
        ];
        for (index, (state, wanted, applied, drained, edges, now_ms, expected)) in cases.iter().enumerate() {
            let known = facts(*wanted, edges, *now_ms);
            let facts = LeaseFacts { node_applied: at(*applied), drained_at: drained.map(at), ..known };
            assert_eq!(step(*state, &facts), *expected, "case {index}");
        }
    }
}
