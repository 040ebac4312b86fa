//! A persona's network section: where its wearers appear from, and how their packets go there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::protocol::Protocol;
use crate::content::ContentSource;
use crate::ids::{Capability, GroupName, PoolName};
use crate::units::{BitRate, Cidr, Share, Span};

/// Largest inner IP packet where a persona says nothing, bytes: fits Geneve into 1,500 with room to spare.
pub const MTU_DEFAULT: u16 = 1_400;

/// Ports that a subject leases where a persona says nothing.
pub const PORTS_PER_SUBJECT_DEFAULT: u32 = 1_024;

/// How a subject appears on the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// Where its egress address comes from.
    pub egress: Egress,
    /// Where it appears to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Largest inner IP packet, bytes; 576 to 9,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Protocols that may pass. Absent: TCP, UDP and ICMP. Those without ports need a whole address or a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<Protocol>>,
    /// Destinations that take the subject's ordinary way instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bypass: Vec<Cidr>,
    /// Which edges carry it. Absent: those of the pool's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgeChoice>,
    /// Hiding what betrays a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// An artificially worse network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impair: Option<Impair>,
}

impl Network {
    /// Largest inner IP packet, bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu.unwrap_or(MTU_DEFAULT)
    }

    /// Whether its packets are encrypted between node and edge.
    pub fn encrypts(&self) -> bool {
        self.privacy.as_ref().is_some_and(|privacy| privacy.encrypt)
    }

    /// Protocols that may pass.
    pub fn protocols(&self) -> Vec<Protocol> {
        self.protocols.clone().unwrap_or_else(|| vec![Protocol::TCP, Protocol::UDP, Protocol::ICMP])
    }

    /// Which address family it leaves with.
    pub fn family(&self) -> Family {
        self.egress.family.unwrap_or_default()
    }

    /// How the subject gets its egress address.
    pub fn assign(&self) -> Assign {
        self.egress.assign.unwrap_or_default()
    }

    /// Who outside may answer.
    pub fn filtering(&self) -> Filtering {
        self.egress.filtering.unwrap_or_default()
    }

    /// The edge group it asks for.
    pub fn group(&self) -> Option<&GroupName> {
        self.edges.as_ref().and_then(|edges| edges.group.as_ref())
    }

    /// Capabilities that its edges must offer.
    pub fn edges_require(&self) -> &[Capability] {
        self.edges.as_ref().map_or(&[], |edges| &edges.requires)
    }

    /// Capabilities that make an edge the better choice.
    pub fn edges_prefer(&self) -> &[Capability] {
        self.edges.as_ref().map_or(&[], |edges| &edges.prefers)
    }

    /// What the path to its edges must keep to.
    pub fn path(&self) -> Option<PathNeeds> {
        self.edges.as_ref().and_then(|edges| edges.path)
    }

    /// The source of content that its edges should be close to.
    pub fn content(&self) -> Option<&ContentSource> {
        self.edges.as_ref().and_then(|edges| edges.content.as_ref())
    }

    /// What of its wearers' hosts is hidden.
    pub fn normalise(&self) -> &[Normalise] {
        self.privacy.as_ref().map_or(&[], |privacy| &privacy.normalise)
    }

    /// How long flows may go on after their subject has left the persona, milliseconds. None: until they end.
    pub fn grace_ms(&self) -> Option<u64> {
        self.egress.grace.map(|grace| grace.0)
    }

    /// Ports that a subject leases, before rounding up to whole blocks.
    pub fn ports_per_subject(&self) -> u32 {
        self.egress.ports_per_subject.unwrap_or(PORTS_PER_SUBJECT_DEFAULT)
    }
}

/// Where an egress address comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Egress {
    /// Pools to lease from, the preferred one first.
    pub pools: Vec<PoolName>,
    /// Which address family. Absent: IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// How the subject gets the address. Absent: rewrite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assign: Option<Assign>,
    /// Who outside may send to an external port that a flow has opened. Absent: anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filtering: Option<Filtering>,
    /// Ports to lease, rounded up to whole blocks of the pool; at most 64,512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports_per_subject: Option<u32>,
    /// How long flows may go on after their subject has left this persona; what is left then is cut. Absent: until they
    /// end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
}

/// Which address family a persona leaves with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4 only.
    #[default]
    Ipv4,
    /// IPv6 only: a prefix of its own.
    Ipv6,
    /// A lease of each family that the pool has; names are resolved to IPv6 first.
    PreferIpv6,
}

/// How a subject gets its egress address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Assign {
    /// The node rewrites the source.
    #[default]
    Rewrite,
    /// The subject's own interface has the leased address or an address of the leased prefix; nothing is rewritten.
    Configure,
}

/// Who outside may send to an external port that a flow has opened (RFC 4787 §5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Anybody.
    #[default]
    EndpointIndependent,
    /// Only remote addresses and ports that the subject has sent to.
    AddressAndPortDependent,
}

/// Where a subject appears to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Location {
    /// ISO 3166-1 alpha-2 code.
    #[schemars(regex(pattern = "^[A-Z]{2}$"))]
    pub country: String,
    /// ISO 3166-2 code of a part of the country.
    #[schemars(regex(pattern = "^[A-Z]{2}-[A-Z0-9]{1,3}$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Its city.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// Degrees north, -90 to 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// Degrees east, -180 to 180.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
}

/// Which edges carry a persona.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeChoice {
    /// The edge group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Edges that must be in service before the persona is given to anyone; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<u16>,
    /// Capabilities that every edge of the group must offer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Capability>,
    /// Capabilities that make an edge the better choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefers: Vec<Capability>,
    /// What the measured path from the subject's node must keep to. Absent: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathNeeds>,
    /// The source of content that its edges should be close to: a place, a prefix or a name. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentSource>,
}

/// What a measured path must keep to. One that nobody measured keeps to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathNeeds {
    /// Longest round trip. At most 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Span>,
    /// Most probes that may stay unanswered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Share>,
    /// Most that the round trip may stray. At most 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
}

/// Hiding what betrays a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Privacy {
    /// Whether the tunnel between node and edge is encrypted (WireGuard). It takes 60 bytes more of the underlay's packets,
    /// 80 where that is IPv6.
    #[serde(default)]
    pub encrypt: bool,
    /// Header fields that shall not betray the host, of all that goes out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalise: Vec<Normalise>,
}

/// A header field that can betray a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// Time to live, hop limit: 64 where the packet leaves its edge.
    Ttl,
    /// IPv4 identification: zero, or out of the lease's range where the packet may be cut. IPv6 flow label: zero.
    IpId,
    /// TCP timestamps: never offered, in either direction.
    TcpTimestamps,
    /// TCP options of SYNs and SYN-ACKs: in one order, padding last; their window: at most 16,384.
    TcpOptions,
    /// DSCP: what `qos` sets, else zero.
    Dscp,
}

/// A network that is made worse on purpose, to test an application as if it were elsewhere: per subject, in each direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Impair {
    /// Added to every packet, in each direction: a round trip takes twice as long. At most 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// How far the delay strays to either side, evenly. At most the delay, and at most 2s. Packets may overtake each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// Packets that are dropped by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Share>,
    /// Packets that go twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<Share>,
    /// Packets that are not delayed and so overtake others. Needs a delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Share>,
    /// Inner IP bytes in each direction, beside the rates of `qos`: the lower one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<BitRate>,
}

impl Impair {
    /// Whether the kernel's netem is needed for it; loss and a rate need none.
    pub fn needs_netem(&self) -> bool {
        let is_delayed = self.delay.is_some_and(|delay| delay.0 > 0);
        is_delayed || self.duplicate.is_some_and(|share| share.millionths() > 0)
    }
}
