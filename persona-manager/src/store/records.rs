//! The records that the store keeps, each valid by construction and serialised as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;

use persona_core::document::{Document, Kind};
pub(crate) use persona_core::health::EdgeState;
use persona_core::health::Hold;
use persona_core::ids::{
    Capability, EdgeNumber, Generation, GroupName, LeaseId, NodeName, PersonaName, PoolName, SubjectId, SubjectNumber,
    Vni,
};
use persona_core::lease::{Fullness, LeaseState};
use persona_core::wire::agent::{EdgeCapacity, Role, WorkloadReport};
use persona_core::wire::api::SectionAssignment;
use persona_core::wire::desired::{AddressFamily, LeaseSpace, ProbeItem, SubjectItem};
use serde::{Deserialize, Serialize};

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

/// A document's name and newest version. It stays after deletion, so that versions and VNIs are never given twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DocumentRecord {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The newest version ever stored.
    pub latest: u32,
    /// Whether it was deleted after that version.
    pub deleted: bool,
    /// Personas: the unique id, given once per name.
    pub vni: Option<Vni>,
}

/// One immutable version of a document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// SHA-256 of the canonical document, in hex.
    pub digest: String,
    /// When it was stored.
    pub created_ms: u64,
    /// The document, canonical.
    pub document: serde_json::Value,
    /// The document, read when it is first asked for.
    #[serde(skip)]
    pub parsed: OnceLock<Option<Document>>,
}

impl VersionRecord {
    /// The document as a type. None: this release no longer accepts what an older one stored.
    pub(crate) fn parsed(&self) -> Option<&Document> {
        self.parsed.get_or_init(|| Document::from_json(self.document.clone()).ok()).as_ref()
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
    /// Keys that joined with it, standard Base64.
    pub keys: Vec<String>,
    /// When it expires.
    pub expires_ms: u64,
}

/// A registered node or edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AgentRecord {
    /// Who.
    pub id: AgentId,
    /// Its Ed25519 public key, standard Base64.
    pub public_key: String,
    /// SHA-256 of its bearer, in hex.
    pub bearer_hash: String,
    /// Its underlay address.
    pub address: IpAddr,
    /// Capabilities it wants or offers.
    pub capabilities: Vec<Capability>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its program's version.
    pub version: String,
    /// What only nodes or only edges have.
    pub details: AgentDetails,
}

impl AgentRecord {
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
    /// Whether its subjects get nothing new: old flows go on until they end.
    #[serde(default)]
    pub draining: bool,
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
}

/// An edge's weight where nobody set one.
pub(crate) const fn weight_default() -> u16 {
    100
}

/// A workload as its node last reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkloadRecord {
    /// Its node.
    pub node: NodeName,
    /// What the node said.
    pub report: WorkloadReport,
}

/// What a subject should wear, what it wears, and who asked for what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubjectRecord {
    /// Who.
    pub subject: SubjectId,
    /// Its number in the data plane.
    pub number: SubjectNumber,
    /// The switch by hand in force.
    pub manual: Option<Override<PersonaName>>,
    /// The request in force.
    pub request: Option<Override<Vec<Capability>>>,
    /// What it shall wear, per section.
    pub sections: BTreeMap<String, SectionAssignment>,
    /// Its network section and lease, as decided; in force once the lease is active.
    pub target: Option<NetworkTarget>,
    /// Why it has no network section though it should.
    pub unassigned: Option<String>,
    /// What its node was told last.
    pub item: Option<SubjectItem>,
}

/// Something asked for, until taken back or until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Override<T> {
    /// What was asked for.
    pub value: T,
    /// When it ends by itself.
    pub until_ms: Option<u64>,
}

/// The network section decided for a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkTarget {
    /// The persona.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// The IPv4 lease for new flows.
    #[serde(default)]
    pub lease: Option<LeaseId>,
    /// The IPv6 lease for new flows.
    #[serde(default)]
    pub lease6: Option<LeaseId>,
}

impl NetworkTarget {
    /// The leases for new flows, of both families.
    pub(crate) fn leases(&self) -> impl Iterator<Item = LeaseId> {
        self.lease.into_iter().chain(self.lease6)
    }

    /// The lease of a family.
    pub(crate) fn lease_of(&self, family: AddressFamily) -> Option<LeaseId> {
        match family {
            AddressFamily::Ipv4 => self.lease,
            AddressFamily::Ipv6 => self.lease6,
        }
    }
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    /// Its id.
    pub id: LeaseId,
    /// Who holds it.
    pub subject: SubjectId,
    /// Under which persona.
    pub persona: PersonaName,
    /// That persona's unique id.
    pub vni: Vni,
    /// The group whose edges carry it.
    pub group: GroupName,
    /// From which pool.
    pub pool: PoolName,
    /// What it consists of.
    #[serde(flatten)]
    pub space: LeaseSpace,
    /// Whether the subject's interface has it and nothing is rewritten.
    #[serde(default)]
    pub configured: bool,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
    /// How long its blocks rest afterwards, milliseconds.
    pub quarantine_ms: u64,
    /// The generation in which edges first learnt of it.
    pub generation: Generation,
    /// How full its node says it is.
    #[serde(default)]
    pub fullness: Fullness,
    /// Where it is in its life.
    pub state: LeaseState,
}

/// The generation of an agent's desired state; the state itself is computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicationRecord {
    /// Whose state.
    pub agent: AgentId,
    /// The revision that last changed it.
    pub generation: Generation,
    /// Digest of state and generation, to know after a restart whether it is still the same.
    pub digest: String,
}

/// The key of the one record of settings.
pub(crate) const SETTINGS_KEY: &str = "settings";

/// What was set through the API and goes before the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingsRecord {
    /// How to probe.
    #[serde(default)]
    pub probe: Option<ProbeItem>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventRecord {
    /// Ascending, without gaps.
    pub number: u64,
    /// When.
    pub time_ms: u64,
    /// A dotted name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Who did it.
    pub actor: String,
    /// A sentence for people.
    pub message: String,
    /// Before and after.
    pub details: serde_json::Value,
}
