//! The firewall on the wire: the rules that a subject wears.

use serde::{Deserialize, Serialize};

use crate::document::{Direction, FirewallAction};
use crate::ids::PersonaName;
use crate::units::Cidr;

/// The firewall rules that a subject wears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectFirewall {
    /// The persona that the section is from.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// Its rules in their order: the first that matches decides, and what none matches passes.
    pub rules: Vec<FirewallRule>,
}

/// A firewall rule in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct FirewallRule {
    /// What happens.
    pub action: FirewallAction,
    /// Who opens: the subject (egress), or somebody towards it (ingress).
    pub direction: Direction,
    /// The other side. Absent: anybody, of either family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub remote: Option<Cidr>,
    /// IP protocol numbers (1 and 58 together for ICMP). None: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<u8>,
    /// Destination ports, of TCP or UDP. None: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}
