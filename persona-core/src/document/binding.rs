//! A binding: which personas a set of subjects may wear, and which they wear by default.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::envelope::Metadata;
use super::persona::Section;
use crate::ids::{BindingName, Capability, PersonaName};
use crate::units::Span;

/// A binding document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BindingDocument {
    /// Its name and labels.
    pub metadata: Metadata<BindingName>,
    /// What it says.
    pub spec: BindingSpec,
}

/// What a binding says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BindingSpec {
    /// Which subjects it is for.
    pub selector: Selector,
    /// Personas that they may wear, the preferred one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub personas: Vec<PersonaName>,
    /// The persona that they wear in every section it has, unless something above decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<PersonaName>,
    /// Defaults per section, stronger than `default`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<Section, PersonaName>,
    /// Capabilities that a persona must have to be worn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Capability>,
    /// Capabilities that make a persona the better choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefers: Vec<Capability>,
    /// How often activation may switch one subject. Absent: six times an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap_budget: Option<FlapBudget>,
}

/// How often activation may switch one subject; what it wears stays while the budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlapBudget {
    /// So many switches.
    pub count: u32,
    /// Within this time.
    pub per: Span,
}

impl Default for FlapBudget {
    fn default() -> Self {
        Self { count: 6, per: Span(3_600_000) }
    }
}

impl BindingSpec {
    /// The default persona of one section.
    pub fn default_for(&self, section: Section) -> Option<&PersonaName> {
        self.defaults.get(&section).or(self.default.as_ref())
    }

    /// Every persona that it names, the ordered list first, each once.
    pub fn named_personas(&self) -> Vec<&PersonaName> {
        let all = self.personas.iter().chain(self.default.iter()).chain(self.defaults.values());
        all.fold(Vec::new(), |mut seen, name| {
            if !seen.contains(&name) {
                seen.push(name);
            }
            seen
        })
    }
}

/// Which subjects a binding is for: all that match every given part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Nodes or workloads.
    pub kind: SelectorKind,
    /// Subjects such as `workload/n1/web`; `*` and `?` stand for any characters but `/`. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Labels that must be bound to it, by a join token or by people. Empty: any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Labels that it must have by its node's own word, or bound: for what is no privilege. Empty: any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claimed_labels: BTreeMap<String, String>,
}

/// What kind of subject a selector is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SelectorKind {
    /// Hosts' own processes.
    Node,
    /// VMs and containers.
    Workload,
}

impl SelectorKind {
    /// Its word in subject ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Workload => "workload",
        }
    }
}
