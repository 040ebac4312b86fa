//! What a decision rests on.

use std::collections::BTreeMap;

use crate::compose::Layer;
use crate::document::PersonaSpec;
use crate::ids::{Capability, EdgeName, GroupName, PersonaName, PoolName};
use crate::lease::block_count_for;

/// Everything that a decision about one subject rests on.
#[derive(Debug)]
pub struct Question<'a> {
    /// Personas that it may wear, each once.
    pub candidates: &'a [Candidate<'a>],
    /// Edge groups.
    pub groups: &'a BTreeMap<GroupName, GroupFacts>,
    /// Egress pools.
    pub pools: &'a BTreeMap<PoolName, PoolFacts>,
    /// What it wears now.
    pub worn: Option<&'a PersonaName>,
    /// What a person switched it to.
    pub manual: Option<&'a PersonaName>,
    /// Capabilities that an application requested.
    pub requested: &'a [Capability],
    /// Capabilities that the subject's node wants, good to have.
    pub wants: &'a [Capability],
}

/// A persona that a subject may wear.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub persona: &'a PersonaName,
    /// Its version; 0 if there is no such persona.
    pub version: u32,
    /// What it says. None: a binding names it, but it does not exist.
    pub spec: Option<&'a PersonaSpec>,
    /// Who lets the subject wear it.
    pub layer: Layer,
    /// Its place in the order of preference, from 0.
    pub position: usize,
    /// Capabilities that its binding requires.
    pub required: &'a [Capability],
    /// Capabilities that its binding prefers.
    pub preferred: &'a [Capability],
    /// The pool of a lease that the subject holds under it and may go on with.
    pub held: Option<&'a PoolName>,
}

/// An edge group, as far as decisions need it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupFacts {
    /// Edges that serve: they report, and acknowledged what is published for them.
    pub serving: Vec<EdgeName>,
    /// Edges that do not, with the reason.
    pub not_serving: Vec<(EdgeName, String)>,
    /// Leases that they carry.
    pub lease_count: u64,
    /// Leases that the serving ones say they can carry. None: they do not say.
    pub lease_capacity: Option<u64>,
    /// Traffic now.
    pub bits_per_sec: u64,
    /// What the serving ones say they can carry. None: they do not say.
    pub bits_per_sec_capacity: Option<u64>,
    /// Least round-trip time from the subject's node, microseconds.
    pub rtt_us: Option<u32>,
}

impl GroupFacts {
    /// The fuller of leases and traffic, 1 is full.
    pub fn load(&self) -> f64 {
        let share = |used: u64, capacity: Option<u64>| match capacity {
            Some(capacity) if capacity > 0 => used as f64 / capacity as f64,
            _ => 0.0,
        };
        share(self.lease_count, self.lease_capacity).max(share(self.bits_per_sec, self.bits_per_sec_capacity))
    }
}

/// An egress pool, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    /// The group that carries it.
    pub group: GroupName,
    /// log2 of the ports in a block.
    pub block_bits: u8,
    /// Most free blocks that one of its addresses has.
    pub best_free: u32,
    /// Blocks in all.
    pub block_count: u32,
}

impl PoolFacts {
    /// Blocks that a subject needs for that many ports.
    pub fn blocks_for(&self, ports: u32) -> u32 {
        block_count_for(ports, self.block_bits)
    }
}
