//! One look at the whole fleet.

use std::collections::BTreeMap;
use std::time::Instant;

use persona_core::ids::SubjectId;
use persona_core::wire::agent::{Counters, Traffic};
use persona_core::wire::api::{EdgeView, NodeView, PersonaView, Status, WorkloadView};

use crate::client::{ApiClient, ClientError};

/// What the manager said at one moment.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    /// When.
    pub(super) at: Instant,
    pub(super) status: Option<Status>,
    pub(super) nodes: Vec<NodeView>,
    pub(super) edges: Vec<EdgeView>,
    pub(super) personas: Vec<PersonaView>,
    pub(super) workloads: Vec<WorkloadView>,
}

impl Default for Fleet {
    fn default() -> Self {
        let (nodes, edges, personas, workloads) = Default::default();
        Self { at: Instant::now(), status: None, nodes, edges, personas, workloads }
    }
}

impl Fleet {
    /// Asks for everything.
    pub(super) async fn look(client: &ApiClient) -> Result<Self, ClientError> {
        let (status, nodes, edges, personas, workloads) =
            tokio::try_join!(client.status(), client.nodes(), client.edges(), client.personas(), client.workloads())?;
        Ok(Self { at: Instant::now(), status: Some(status), nodes, edges, personas, workloads })
    }

    /// What every subject has sent and received.
    pub(super) fn subjects(&self) -> BTreeMap<&SubjectId, Traffic> {
        let of = self.nodes.iter().flat_map(|node| &node.counters.subjects);
        of.map(|of| (&of.subject, of.traffic)).collect()
    }

    /// What the wearers of every persona have sent and received, by VNI.
    pub(super) fn persona_traffic(&self) -> BTreeMap<u32, Traffic> {
        let mut all: BTreeMap<u32, Traffic> = BTreeMap::new();
        for (vni, traffic) in self.nodes.iter().flat_map(|node| &node.counters.personas) {
            let sum = all.entry(*vni).or_default();
            *sum = plus(*sum, *traffic);
        }
        all
    }
}

/// What a node's subjects have sent and received, all together.
pub(super) fn node_traffic(counters: &Counters) -> Traffic {
    counters.subjects.iter().fold(Traffic::default(), |sum, of| plus(sum, of.traffic))
}

/// Packets that were dropped, for whatever reason.
pub(super) fn drop_count(counters: &Counters) -> u64 {
    counters.drops.values().sum()
}

fn plus(one: Traffic, other: Traffic) -> Traffic {
    Traffic {
        egress_packets: one.egress_packets + other.egress_packets,
        egress_bytes: one.egress_bytes + other.egress_bytes,
        ingress_packets: one.ingress_packets + other.ingress_packets,
        ingress_bytes: one.ingress_bytes + other.ingress_bytes,
    }
}
