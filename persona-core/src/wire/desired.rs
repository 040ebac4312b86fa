//! Desired state: all effects that the assignments of one node or one edge imply, published whole with a generation.
//!
//! The state is a map of keyed items. A watch stream starts with a snapshot and goes on with deltas over that map;
//! whoever finds a gap or a digest that does not match asks for the stream anew and gets a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::agent::Role;
pub use super::item_map::ItemMap;
use super::proof::StateProof;
use crate::ids::Generation;

pub use super::items::{
    EdgeItem, LeaseItem, LeaseRates, NodeItem, PoolItem, ProbeItem, ShareItem, SharedQos, SubjectImpair, SubjectItem,
    SubjectNetwork, SubjectQos,
};
pub use super::space::{AddressFamily, LeaseSpace, PREFIX_LENGTH, WHOLE_ADDRESS_BITS};
pub use super::tunnel::{TunnelEnd, TunnelItem};
pub use crate::document::{Assign, EnforceAt, Filtering, Normalise, SharedScope};

/// All that one node or one edge shall be, at one generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DesiredState {
    /// The version of this state.
    pub generation: Generation,
    /// Item key (see [`Item::key`]) → item.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, Item>))]
    pub items: ItemMap,
    /// What shows to a manager that one published it. Absent: an earlier release did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<StateProof>,
}

/// What a digest over the whole state is over.
#[derive(Serialize)]
struct Digested<'a> {
    generation: Generation,
    items: &'a ItemMap,
}

/// What a digest of a state begins with that is made from a sum ([`DesiredState::digest`]); others are of releases before it.
const SUM_PREFIX: &str = "sum:";

/// How a stream's frames say what the state is that they lead to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum DigestKind {
    /// SHA-256 over the canonical JSON of all of it: what agents understand that ask for nothing.
    #[default]
    Whole,
    /// [`DesiredState::digest`], which costs as much as what changed.
    Sum,
}

/// One part of a desired state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "camelCase")]
#[expect(
    clippy::large_enum_variant,
    reason = "most items are subjects and leases; a box would cost each an allocation"
)]
pub enum Item {
    /// To nodes and edges: an edge that exists.
    Edge(EdgeItem),
    /// To nodes: a subject that lives there and what it wears.
    Subject(SubjectItem),
    /// To nodes: leases of its own subjects; to edges: all leases of their group.
    Lease(LeaseItem),
    /// To edges: egress addresses that the group carries.
    Pool(PoolItem),
    /// To edges: a node whose packets may come.
    Node(NodeItem),
    /// To nodes: what they have of a total over all nodes.
    Share(ShareItem),
    /// To both: an end of encrypted tunnels that it talks to.
    Tunnel(TunnelItem),
    /// To both: how to probe.
    Probe(ProbeItem),
}

impl Item {
    /// The key under which the item stands in [`DesiredState::items`].
    pub fn key(&self) -> String {
        match self {
            Self::Edge(edge) => format!("edge/{}", edge.name),
            Self::Subject(subject) => format!("subject/{}", subject.subject),
            Self::Lease(lease) => format!("lease/{}", lease.id),
            Self::Pool(pool) => format!("pool/{}", pool.name),
            Self::Node(node) => format!("node/{}", node.name),
            Self::Share(share) => format!("share/{}", share.persona),
            Self::Tunnel(tunnel) => match tunnel.role {
                Role::Node => format!("tunnel/node/{}", tunnel.name),
                Role::Edge => format!("tunnel/edge/{}", tunnel.name),
            },
            Self::Probe(_) => "probe".to_owned(),
        }
    }
}

/// One message of a watch stream: a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Frame {
    /// The whole state.
    #[serde(rename_all = "camelCase")]
    Snapshot {
        /// The state.
        state: DesiredState,
        /// Its digest, of the kind that was asked for.
        digest: String,
    },
    /// What changed since generation `from`.
    #[serde(rename_all = "camelCase")]
    Delta {
        /// The generation that this builds on.
        from: Generation,
        /// The generation that it leads to.
        to: Generation,
        /// Items that are new or different.
        upsert: BTreeMap<String, Item>,
        /// Keys that are gone.
        remove: Vec<String>,
        /// The result's digest, of the kind that was asked for.
        digest: String,
        /// What shows that the result was published.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<StateProof>,
    },
    /// Nothing changed; the stream is alive.
    #[serde(rename_all = "camelCase")]
    Bookmark {
        /// The generation in force.
        generation: Generation,
    },
    /// The store has gone back to an earlier state (a restore, a lossy fail-over): say what is in force, and nothing is
    /// sent before that is known. It stays in force meanwhile.
    Recall {
        /// The store incarnation that asks.
        incarnation: u32,
    },
}

/// A frame that does not continue the state at hand; the stream must be opened anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenStream {
    /// A delta builds on another generation.
    #[error("delta builds on generation {from}, but {have} is in force")]
    Gap {
        /// What the delta builds on.
        from: Generation,
        /// What is in force.
        have: Generation,
    },
    /// The result is not what the manager has.
    #[error("digest of generation {0} does not match")]
    Digest(Generation),
}

impl DesiredState {
    /// A digest of generation and items, which is kept up: `sum:` and 64 hex digits.
    pub fn digest(&self) -> String {
        format!("{SUM_PREFIX}{}", self.items.digest(&self.generation.0.to_be_bytes()))
    }

    /// A digest as it was asked for.
    pub fn digest_of(&self, kind: DigestKind) -> String {
        match kind {
            DigestKind::Sum => self.digest(),
            DigestKind::Whole => {
                let digested = Digested { generation: self.generation, items: &self.items };
                let text = serde_json::to_vec(&digested).expect("a desired state has string keys only");
                crate::hex::encode(&Sha256::digest(text))
            }
        }
    }

    /// Whether this is the state that a digest of either kind is of.
    pub fn has_digest(&self, digest: &str) -> bool {
        let kind = if digest.starts_with(SUM_PREFIX) { DigestKind::Sum } else { DigestKind::Whole };
        self.digest_of(kind) == digest
    }

    /// Adds an item, replacing one with the same key.
    pub fn insert(&mut self, item: Item) {
        self.items.insert(item);
    }

    /// The frame that leads from `self` to `next`, whose digest is known.
    pub fn delta_to(&self, next: &DesiredState, digest: String, proof: Option<StateProof>) -> Frame {
        let (upsert, remove) = self.items.changes_to(&next.items);
        Frame::Delta { from: self.generation, to: next.generation, upsert, remove, digest, proof }
    }

    /// The frame that carries the whole of `self`, as every release reads it.
    pub fn to_snapshot(&self) -> Frame {
        Frame::Snapshot { state: self.clone(), digest: self.digest_of(DigestKind::Whole) }
    }

    /// The state after `frame`, or why the stream must be opened anew.
    pub fn after(&self, frame: Frame) -> Result<DesiredState, BrokenStream> {
        match frame {
            Frame::Recall { .. } => Ok(self.clone()),
            Frame::Bookmark { generation } if generation == self.generation => Ok(self.clone()),
            Frame::Bookmark { generation: from } => Err(BrokenStream::Gap { from, have: self.generation }),
            Frame::Snapshot { state, digest } => state.checked(&digest),
            Frame::Delta { from, .. } if from != self.generation => {
                Err(BrokenStream::Gap { from, have: self.generation })
            }
            Frame::Delta { to, upsert, remove, digest, proof, .. } => {
                let mut next = DesiredState { generation: to, items: self.items.clone(), proof };
                remove.iter().for_each(|key| next.items.remove(key));
                upsert.into_iter().for_each(|(key, item)| next.items.put(key.into(), Arc::new(item)));
                next.checked(&digest)
            }
        }
    }

    fn checked(self, digest: &str) -> Result<DesiredState, BrokenStream> {
        if self.has_digest(digest) { Ok(self) } else { Err(BrokenStream::Digest(self.generation)) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn state(number: u64, probes: &[ProbeItem], nodes: &[&str]) -> DesiredState {
        let mut state = DesiredState { generation: Generation::new(1, number), ..Default::default() };
        probes.iter().for_each(|probe| state.insert(Item::Probe(*probe)));
        for name in nodes {
            let address = IpAddr::from([10, 0, 0, 1]);
            state.insert(Item::Node(NodeItem { name: name.parse().unwrap(), address }));
        }
        state
    }

    #[test]
    fn a_delta_leads_from_one_state_to_the_next() {
        let before = state(1, &[ProbeItem::default()], &["a", "b"]);
        let mut after = state(2, &[], &["b", "c"]);
        let digest = after.digest();
        let (root, mac) = ("aa".to_owned(), "bb".to_owned());
        after.proof = Some(StateProof { generation: after.generation, digest: digest.clone(), root, mac });
        for kind in [DigestKind::Whole, DigestKind::Sum] {
            let bare = DesiredState { proof: None, ..after.clone() };
            assert_eq!(after.digest_of(kind), bare.digest_of(kind), "a proof is not part of what it is over");
        }
        let frame: Frame = serde_json::from_str(
            &serde_json::to_string(&before.delta_to(&after, digest, after.proof.clone())).unwrap(),
        )
        .unwrap();
        assert_eq!(before.after(frame).unwrap(), after);
    }

    #[test]
    fn a_digest_of_either_kind_is_understood() {
        let (one, two) = (state(1, &[], &["a"]), state(2, &[], &["a", "b"]));
        for kind in [DigestKind::Whole, DigestKind::Sum] {
            assert_eq!(one.after(one.delta_to(&two, two.digest_of(kind), None)).as_ref(), Ok(&two), "{kind:?}");
            assert!(two.has_digest(&two.digest_of(kind)) && !one.has_digest(&two.digest_of(kind)), "{kind:?}");
        }
        // What an earlier release says of the same state.
        let text = r#"{"generation":1099511627778,"items":{"node/a":{"kind":"node","name":"a","address":"10.0.0.1"},"node/b":{"kind":"node","name":"b","address":"10.0.0.1"}}}"#;
        assert_eq!(two.digest_of(DigestKind::Whole), crate::hex::encode(&Sha256::digest(text)));
    }

    #[test]
    fn a_gap_or_a_wrong_digest_breaks_the_stream() {
        let (one, two, three) = (state(1, &[], &[]), state(2, &[], &["a"]), state(3, &[], &["b"]));
        let delta = |from: &DesiredState, to: &DesiredState, kind| from.delta_to(to, to.digest_of(kind), None);
        assert!(matches!(one.after(delta(&two, &three, DigestKind::Whole)), Err(BrokenStream::Gap { .. })));
        let Frame::Delta { from, to, upsert, remove, .. } = delta(&one, &two, DigestKind::Sum) else { unreachable!() };
        let forged = Frame::Delta { from, to, upsert, remove, digest: "00".into(), proof: None };
        assert!(matches!(one.after(forged), Err(BrokenStream::Digest(_))));
    }
}
