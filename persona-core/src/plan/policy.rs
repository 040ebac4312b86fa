//! Policies: who may be where, by labels, countries, shares and distance from each other.
//!
//! Types and the matching of selectors; `filter` and `coupled` enforce them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fleet::FleetEdge;
use crate::ids::{EdgeName, GroupName};
use crate::units::Share;

/// A rule for some subjects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetPolicy {
    /// What explanations call it.
    pub name: String,
    /// For whom it is. Absent: for everybody.
    #[serde(default, skip_serializing_if = "SubjectSelector::is_any")]
    pub subjects: SubjectSelector,
    /// What it demands.
    pub rule: Rule,
}

/// What a policy demands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// Only these edges. Of several such policies for one subject each edge must satisfy one.
    Allow(EdgeSelector),
    /// Not these edges.
    Deny(EdgeSelector),
    /// Only edges in these countries, by ISO 3166-1 alpha-2 code. Of several each must be satisfied.
    Residency(Vec<String>),
    /// Not too many of them in one group.
    MaxGroupShare(GroupShare),
    /// Not too many of a kind on one edge.
    Apart(Apart),
}

/// How many of the subjects may be in one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupShare {
    /// The group. Absent: each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Of all subjects that the policy is for, rounded down.
    pub share: Share,
}

/// How many subjects with the same value of a label may be on one edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Apart {
    /// The label. Subjects without it are free.
    pub label: String,
    /// So many at most.
    #[serde(default = "one")]
    pub per_edge: u32,
}

fn one() -> u32 {
    1
}

/// Subjects that have all of these labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubjectSelector {
    /// Labels that it must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl SubjectSelector {
    /// Whether it is for everybody.
    pub fn is_any(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether it is for a subject whose label of a name is what `label_of` says.
    pub fn matches<'a>(&self, label_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.labels.iter().all(|(key, value)| label_of(key) == Some(value))
    }
}

/// Edges that match every given part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeSelector {
    /// Their names. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<EdgeName>,
    /// Their groups. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// Labels that they must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl EdgeSelector {
    /// Whether it selects `edge`.
    pub fn matches(&self, edge: &FleetEdge) -> bool {
        self.selects(&edge.name, &edge.group, &edge.labels)
    }

    /// Whether it selects an edge of this name, in this group, with these labels.
    pub fn selects(&self, name: &EdgeName, group: &GroupName, labels: &BTreeMap<String, String>) -> bool {
        (self.edges.is_empty() || self.edges.contains(name))
            && (self.groups.is_empty() || self.groups.contains(group))
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
