//! What a decision rests on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ledger::{Labels, Ledger};
use crate::compose::Layer;
use crate::content::{ContentPlace, ContentSource};
use crate::document::Network;
use crate::document::PersonaSpec;
use crate::ids::{Capability, EdgeName, GroupName, PersonaName, PoolName, SubjectId};
use crate::lease::{Need, PoolFamilies, needs};

/// Everything that a decision about one subject rests on.
#[derive(Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub subject: &'a SubjectId,
    /// Its labels, as far as policies look at them.
    pub labels: &'a Labels,
    /// Personas that it may wear, each once.
    pub candidates: &'a [Candidate<'a>],
    /// Edge groups.
    pub groups: &'a BTreeMap<GroupName, GroupFacts>,
    /// Egress pools.
    pub pools: &'a BTreeMap<PoolName, PoolFacts>,
    /// What subjects hold of groups, and the policies under which that counts.
    pub ledger: &'a Ledger,
    /// What it wears now.
    pub worn: Option<&'a PersonaName>,
    /// What a person switched it to.
    pub manual: Option<&'a PersonaName>,
    /// What its criteria chose.
    pub activated: Option<Activated<'a>>,
    /// Capabilities that an application requested.
    pub requested: &'a [Capability],
    /// The source of content that the request asks to be close to. None: what a persona says counts.
    pub content: Option<&'a ContentSource>,
    /// Capabilities that the subject's node wants, good to have.
    pub wants: &'a [Capability],
    /// What the node's uplink carries, bits per second. None: it does not say.
    pub uplink_bps: Option<u64>,
    /// Whether its node cannot tell its packets from others', so that it keeps its ordinary network.
    pub keeps_network: bool,
}

impl Question<'_> {
    /// Whether its criteria chose this persona.
    pub(super) fn has_activated(&self, persona: &PersonaName) -> bool {
        self.activated.is_some_and(|activated| activated.persona == persona)
    }
}

/// A persona whose criteria hold.
#[derive(Debug, Clone, Copy)]
pub struct Activated<'a> {
    /// Which.
    pub persona: &'a PersonaName,
    /// Why, a sentence for people.
    pub reason: &'a str,
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
    /// Whether it is worn only while its criteria hold, or if somebody asks for it.
    pub is_conditional: bool,
    /// The pool of a lease that the subject holds under it and may go on with.
    pub held: Option<&'a PoolName>,
}

/// An edge group, as far as decisions need it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupFacts {
    /// Every edge that is in the group, whether it serves or not.
    pub edges: Vec<Arc<GroupEdge>>,
    /// Edges that serve: they report, and acknowledged what is published for them.
    pub serving: Vec<EdgeName>,
    /// Ends of encrypted tunnels that are missing: serving edges that have none, and the subject's node.
    pub unencrypted: Vec<String>,
    /// Edges that do not, with the reason.
    pub not_serving: Vec<(EdgeName, String)>,
    /// Leases that they carry.
    pub lease_count: u64,
    /// The edge that says it can hold the fewest, and how many. None: they do not say.
    pub lease_capacity: Option<(u64, EdgeName)>,
    /// Traffic now.
    pub bits_per_sec: u64,
    /// What the serving ones say they can carry. None: they do not say.
    pub bits_per_sec_capacity: Option<u64>,
    /// Serving edges that do not say what they can carry.
    pub unstated_count: u32,
    /// Least round-trip time from the subject's node, microseconds.
    pub rtt_us: Option<u32>,
    /// How much that varies, microseconds. None: nobody measured it.
    pub jitter_us: Option<u32>,
    /// Share of the node's probes on that path that stay unanswered, 0 to 1. None: the node does not say.
    pub loss: Option<f32>,
    /// By source of content, the least round trip from a serving edge, microseconds. What none measured is not in it.
    pub content_rtt_us: BTreeMap<String, u32>,
    /// Where its serving edges stand, as far as they say so.
    pub places: Vec<ContentPlace>,
}

/// An edge of a group, as far as policies and personas look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEdge {
    /// Its name.
    pub name: EdgeName,
    /// Its labels.
    pub labels: Labels,
    /// What it offers.
    pub capabilities: Vec<Capability>,
    /// The country that its labels say it is in, by ISO 3166-1 alpha-2 code.
    pub country: Option<String>,
}

impl GroupFacts {
    /// The fuller of leases and traffic, 1 is full.
    pub fn load(&self) -> f64 {
        let share = |used: u64, capacity: Option<u64>| match capacity {
            Some(capacity) if capacity > 0 => used as f64 / capacity as f64,
            _ => 0.0,
        };
        let lease_capacity = self.lease_capacity.as_ref().map(|(count, _)| *count);
        share(self.lease_count, lease_capacity).max(share(self.bits_per_sec, self.bits_per_sec_capacity))
    }

    /// Leases that there is room for. None: its edges do not say.
    pub fn lease_room(&self) -> Option<u64> {
        self.lease_capacity.as_ref().map(|(count, _)| count.saturating_sub(self.lease_count))
    }

    /// What may be guaranteed in all, bits per second. None: not each of its serving edges says what it can carry.
    pub fn guarantee_capacity(&self) -> Option<u64> {
        self.bits_per_sec_capacity.filter(|_| self.unstated_count == 0)
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
    /// IPv4 addresses of which nobody holds anything.
    pub free_addresses: u32,
    /// IPv4 addresses in all.
    pub address_count: u32,
    /// IPv6 /64 that nobody holds.
    pub free_prefixes: u32,
    /// IPv6 /64 in all.
    pub prefix_count: u32,
}

impl PoolFacts {
    /// The leases that a subject needs of it. None: it lacks the family that is asked for.
    pub fn needs(&self, network: &Network) -> Option<Vec<Need>> {
        let families = PoolFamilies { ipv4: self.address_count > 0, ipv6: self.prefix_count > 0 };
        needs(network, families, self.block_bits)
    }

    /// Whether it has room for a lease.
    pub fn has_room(&self, need: Need) -> bool {
        match need {
            Need::Blocks(count) => self.best_free >= count,
            Need::Address => self.free_addresses > 0,
            Need::Prefix => self.free_prefixes > 0,
        }
    }

    /// Why it has no room for a lease, in numbers, and what would change that.
    pub fn shortage(&self, name: &PoolName, need: Need) -> (String, String) {
        match need {
            Need::Blocks(count) => (
                format!(
                    "{count} blocks of one address are needed, at most {} are free; it has {} blocks in all",
                    self.best_free, self.block_count
                ),
                format!(
                    "add addresses to pool {name}, lower network.egress.portsPerSubject, or wait for leases to end"
                ),
            ),
            Need::Address => (
                format!(
                    "a whole address is needed; of each of its {} addresses somebody holds ports",
                    self.address_count
                ),
                format!(
                    "add addresses to pool {name}, keep a pool for whole addresses alone, or wait for leases to end"
                ),
            ),
            Need::Prefix => (
                format!("a /64 is needed; all its {} are held", self.prefix_count),
                format!("add IPv6 prefixes to pool {name}, or wait for leases to end"),
            ),
        }
    }
}
