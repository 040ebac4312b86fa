//! Nodes and edges, and the tokens by which they join.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use persona_core::fleet_share::Share;
use persona_core::health::{EdgeState, Hold};
use persona_core::ids::{Capability, EdgeNumber, GroupName, NodeName, PersonaName, WorkloadName};
use persona_core::wire::agent::{EdgeCapacity, Role};
use persona_core::wire::api::Maintenance;
use persona_core::wire::contents::ContentRtts;
use persona_core::wire::desired::{ShareItem, TunnelEnd};
use serde::{Deserialize, Serialize};

/// What keys of labels begin with that bind a capability to an edge.
const CAPABILITY_LABEL: &str = "capability/";

/// A node or an edge: whoever registers, watches and reports. Written `node/NAME` or `edge/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct AgentId {
    /// What it is.
    pub role: Role,
    /// Its name, unique per role.
    pub name: String,
}

impl AgentId {
    /// The id of an edge.
    pub(crate) fn edge(name: &str) -> Self {
        Self { role: Role::Edge, name: name.to_owned() }
    }

    /// The id of a node.
    pub(crate) fn node(name: &NodeName) -> Self {
        Self { role: Role::Node, name: name.to_string() }
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Node => "node",
            Role::Edge => "edge",
        };
        write!(formatter, "{role}/{}", self.name)
    }
}

/// A join token, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JoinTokenRecord {
    /// Its id.
    pub id: String,
    /// SHA-256 of the secret, in hex.
    pub hash: String,
    /// What may join with it.
    pub role: Role,
    /// The only name that may join.
    pub name: Option<String>,
    /// How many different keys may join with it.
    pub uses: u32,
    /// Labels that who joins with it has.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Keys that joined with it by a release before [`JoinedKeyRecord`](super::JoinedKeyRecord), standard Base64.
    #[serde(default)]
    pub keys: Vec<String>,
    /// When it expires.
    pub expires_ms: u64,
    /// The root that it pins.
    #[serde(default)]
    pub root: Option<String>,
}

/// A registered node or edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AgentRecord {
    /// Who.
    pub id: AgentId,
    /// Its public key, standard Base64.
    pub public_key: String,
    /// How often it registered: whoever watches for an earlier registration is cut off.
    #[serde(default)]
    pub registration_count: u64,
    /// When its newest certificate ends.
    #[serde(default)]
    pub certificate_expires_ms: u64,
    /// The key identifier of the root under which the certificate is that it last came with, in hex.
    #[serde(default)]
    pub certificate_issuer: Option<String>,
    /// Its underlay address.
    pub address: IpAddr,
    /// Its end of encrypted tunnels.
    #[serde(default)]
    pub tunnel: Option<TunnelEnd>,
    /// Capabilities it wants or offers.
    pub capabilities: Vec<Capability>,
    /// What it says of itself; of who registered with an earlier release, with the bound ones over it.
    pub labels: BTreeMap<String, String>,
    /// The labels that are bound to it, by its join token or by people.
    #[serde(default)]
    pub bound_labels: BTreeMap<String, String>,
    /// Its program's version.
    pub version: String,
    /// What only nodes or only edges have.
    pub details: AgentDetails,
}

impl AgentRecord {
    /// Its labels by anybody's word, the bound ones over its own.
    pub(crate) fn all_labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().chain(&self.bound_labels).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// What an edge offers as far as that is bound, by labels `capability/NAME`. What it says of itself is its own word, and
    /// satisfies nothing.
    pub(crate) fn bound_capabilities(&self) -> Vec<Capability> {
        let named = self.bound_labels.keys().filter_map(|key| key.strip_prefix(CAPABILITY_LABEL));
        named.filter_map(|name| name.parse().ok()).collect()
    }

    /// What only edges have.
    pub(crate) fn edge(&self) -> Option<&EdgeDetails> {
        match &self.details {
            AgentDetails::Edge(edge) => Some(edge),
            AgentDetails::Node(_) => None,
        }
    }

    /// What only nodes have.
    pub(crate) fn node(&self) -> Option<&NodeDetails> {
        match &self.details {
            AgentDetails::Node(node) => Some(node),
            AgentDetails::Edge(_) => None,
        }
    }
}

impl EdgeDetails {
    /// Whether it is being emptied, for good or for maintenance.
    pub(crate) fn is_emptied(&self) -> bool {
        self.draining || self.maintenance.is_some()
    }
}

/// What only nodes or only edges have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum AgentDetails {
    /// A node.
    Node(NodeDetails),
    /// An edge.
    Edge(EdgeDetails),
}

/// What only nodes have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeDetails {
    /// Whether it reported lately.
    pub up: bool,
    /// Whether it hears none of the edges that it probes, though one serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
    /// Whether its subjects get nothing new: old flows go on until they end.
    #[serde(default)]
    pub draining: bool,
    /// What it has of personas' totals over all nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<PersonaName, NodeShare>,
    /// Labels that people bound to its workloads, also to some that it does not report now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workload_labels: BTreeMap<WorkloadName, BTreeMap<String, String>>,
}

/// What a node has of a persona's total over all nodes, bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeShare {
    /// Upwards.
    pub egress: Share,
    /// Downwards.
    pub ingress: Share,
}

impl NodeShare {
    /// What the node is told.
    pub(crate) fn item(&self, persona: &PersonaName) -> ShareItem {
        ShareItem { persona: persona.clone(), egress_bps: self.egress.told, ingress_bps: self.ingress.told }
    }
}

/// What only edges have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EdgeDetails {
    /// Its number in the data plane.
    pub number: EdgeNumber,
    /// Its group.
    pub group: GroupName,
    /// What it can carry.
    pub capacity: Option<EdgeCapacity>,
    /// Whether it serves.
    pub state: EdgeState,
    /// Why.
    pub reason: String,
    /// Its share of the group's flows, relative to the others, 1 to 1,000.
    #[serde(default = "weight_default")]
    pub weight: u16,
    /// Whether new flows avoid it.
    #[serde(default)]
    pub draining: bool,
    /// Who works on it, if anybody does.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// Whether it was deleted and is forgetting everything before its record goes.
    #[serde(default)]
    pub is_leaving: bool,
    /// Its comings and goings.
    #[serde(default)]
    pub hold: Hold,
    /// What is wrong with it although it serves.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Whether it is silent and heard by a node.
    #[serde(default)]
    pub is_lifeline: bool,
    /// Whether what its flags say is wrong for everybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_degraded: bool,
    /// Its round trips to sources of content, microseconds, as they last changed clearly.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content_rtt_us: ContentRtts,
}

/// An edge's weight where nobody set one.
pub(crate) const fn weight_default() -> u16 {
    100
}
