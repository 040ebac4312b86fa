//! What a role knows at one moment, as it is shown to a scraper.

use std::collections::BTreeMap;

use persona_core::wire::agent::Traffic;

/// Everything that is shown, as it was at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Drop reason → packets.
    pub drops: BTreeMap<String, u64>,
    /// Per subject that lives here.
    pub subjects: Vec<SubjectSample>,
    /// Per persona, by VNI.
    pub personas: BTreeMap<u32, Traffic>,
    /// Per edge that is probed.
    pub edges: Vec<EdgeSample>,
    /// Per lease that is held here.
    pub leases: Vec<LeaseSample>,
    /// What user space did for the programs: cut, waited, released, expired … → packets.
    pub slow_path: BTreeMap<String, u64>,
    /// Nodes: flows that were cut because their lease's grace was over.
    pub cut_flow_count: u64,
    /// Edges: what this one is about itself.
    pub own_edge: Option<OwnEdgeSample>,
    /// Nodes and edges: how this role stands with the manager.
    pub link: Option<LinkSample>,
    /// Gateways: every instance of every service.
    pub gateway: Vec<InstanceSample>,
    /// The generation in force, as a number.
    pub generation: u64,
    /// Whether the newest generation was refused.
    pub is_rejected: bool,
}

/// What was counted of one subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectSample {
    /// Who, such as `workload/n1/web`.
    pub subject: String,
    /// Its traffic.
    pub traffic: Traffic,
    /// Flows that it opened, and connections opened towards it.
    pub opened_flow_count: u64,
    /// Packets from it or for it that were dropped.
    pub dropped_packet_count: u64,
}

/// What probes say of one edge.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSample {
    /// Its name.
    pub edge: String,
    /// Whether it answers.
    pub alive: bool,
    /// Smoothed round-trip time, seconds.
    pub rtt_secs: Option<f64>,
    /// Mean deviation of the round-trip time, seconds.
    pub jitter_secs: Option<f64>,
    /// Share of probes without answer, 0 to 1.
    pub loss: f64,
}

/// How full one lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSample {
    /// Its id.
    pub lease: u64,
    /// Ports in use, over all protocols.
    pub live_slot_count: u32,
    /// Ports there are, over all protocols.
    pub slot_count: u32,
    /// Flows under a port that is shared.
    pub shared_port_count: u32,
}

/// What an edge tells of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnEdgeSample {
    /// Its name.
    pub edge: String,
    /// What it carried, of all personas: what was counted when its process started, and all since.
    pub carried: Traffic,
    /// Leases in its table.
    pub lease_count: usize,
    /// Egress addresses and next hops that it answers for.
    pub owned_count: usize,
    /// Ranges that routes to it are announced for. None: by its configuration there are none.
    pub announced_count: Option<usize>,
    /// Nodes that it hears.
    pub heard_node_count: usize,
    /// Nodes that it should hear and does not.
    pub silent_node_count: usize,
    /// Whether its outside next hop answers; unknown before the first answer was due.
    pub is_outside_alive: Option<bool>,
    /// Whether the manager empties it.
    pub is_draining: bool,
    /// What it is said to carry, bits per second of both directions together.
    pub capacity_bits_per_sec: Option<u64>,
}

/// How a role stands with the manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkSample {
    /// Whether a stream of desired state is open.
    pub is_connected: bool,
    /// When the certificate at hand ends, milliseconds since 1970. None: it has none yet.
    pub certificate_expires_ms: Option<u64>,
}

/// How one instance of a gateway's service is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceSample {
    /// The service's name.
    pub service: String,
    /// The instance's name.
    pub instance: String,
    /// Whether it answers.
    pub is_alive: bool,
    /// Whether new flows avoid it by somebody's wish.
    pub is_draining: bool,
    /// Its share of new flows.
    pub weight: u16,
    /// Flows in force.
    pub flow_count: u64,
    /// Flows that it was chosen for.
    pub opened_count: u64,
    /// Ingress is towards it; egress, replies that pass the gateway.
    pub traffic: Traffic,
}
