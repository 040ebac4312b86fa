//! A persona: what a subject appears as. This file holds the spec.
//!
//! A section that is absent leaves the lower layer's section in force (see [`crate::compose`]).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::envelope::Metadata;
use super::network::Network;
use super::qos::Qos;
use super::sections::{ActivationRule, MonitoringRule, Resources, Security, SoftwarePackage};
use crate::ids::{Capability, PersonaName};

/// A persona document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonaDocument {
    /// Its name and labels.
    pub metadata: Metadata<PersonaName>,
    /// What it says.
    pub spec: PersonaSpec,
}

/// What a persona says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonaSpec {
    /// What it offers to whoever asks for a capability.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// How the subject appears on the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Rates and marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// CPU, memory, disk and process limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Firewall, and what an instance may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Packages to have: installed inside guests that permit it; elsewhere what differs is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<Vec<SoftwarePackage>>,
    /// What to watch, and which alert to raise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Vec<MonitoringRule>>,
    /// When to wear it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Vec<ActivationRule>>,
}

/// A part of a persona that is worn on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Section {
    /// How the subject appears on the network.
    Network,
    /// Rates and marks.
    Qos,
    /// CPU, memory, disk and process limits.
    Resources,
    /// Firewall.
    Security,
    /// Packages to have.
    Software,
    /// What to watch.
    Monitoring,
    /// When to wear it.
    Activation,
}

impl Section {
    /// All of them, in the order of the document.
    pub const ALL: [Section; 7] = [
        Section::Network,
        Section::Qos,
        Section::Resources,
        Section::Security,
        Section::Software,
        Section::Monitoring,
        Section::Activation,
    ];

    /// Its key in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Qos => "qos",
            Self::Resources => "resources",
            Self::Security => "security",
            Self::Software => "software",
            Self::Monitoring => "monitoring",
            Self::Activation => "activation",
        }
    }

    /// Whether this release makes it true. The others are stored only, and `apply` says so.
    pub fn is_enforced(self) -> bool {
        self != Self::Software
    }
}

impl fmt::Display for Section {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl PersonaSpec {
    /// Whether the persona has the section.
    pub fn has(&self, section: Section) -> bool {
        match section {
            Section::Network => self.network.is_some(),
            Section::Qos => self.qos.is_some(),
            Section::Resources => self.resources.is_some(),
            Section::Security => self.security.is_some(),
            Section::Software => self.software.is_some(),
            Section::Monitoring => self.monitoring.is_some(),
            Section::Activation => self.activation.is_some(),
        }
    }

    /// What it guarantees each wearer upwards, bits per second; 0: nothing.
    pub fn guaranteed_bps(&self) -> u64 {
        self.qos.as_ref().and_then(|qos| qos.guaranteed_rate).map_or(0, |rate| rate.0)
    }

    /// The sections it has, in the order of the document.
    pub fn sections(&self) -> impl Iterator<Item = Section> + '_ {
        Section::ALL.into_iter().filter(|section| self.has(*section))
    }

    /// Whether it has activation rules.
    pub fn has_rules(&self) -> bool {
        self.activation.iter().flatten().next().is_some()
    }
}
