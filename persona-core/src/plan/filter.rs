//! Why a subject may not be on an edge.
//!
//! Filters that look at the pair alone are asked once, when the fleet is read; service, room and what depends on other
//! subjects when a plan is made. Explanations ask the same functions.

use serde::{Deserialize, Serialize};

use super::fleet::{Path, PathLimits};
use super::ground::SubjectFacts;
use super::tables::{EdgeFacts, PersonaFacts, Tables};

/// What may refuse an edge to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// None of the subject's personas may be carried by the edge's group, or its lease is another group's.
    Group,
    /// The edge lacks a capability that is required.
    Capability,
    /// A policy denies it, or allows others only.
    Policy,
    /// A policy keeps the subject in other countries.
    Residency,
    /// The path to it is not measured, or worse than the persona takes.
    Path,
    /// The edge takes no subjects now.
    Service,
    /// It has no room left.
    Room,
    /// A policy bounds its group's share, which is used up.
    GroupShare,
    /// A policy keeps the subject apart from others that are there.
    Apart,
}

/// The filters that look at the pair alone, in the order in which they are asked.
pub(super) const PAIR_FILTERS: [Filter; 5] =
    [Filter::Group, Filter::Capability, Filter::Policy, Filter::Residency, Filter::Path];

impl Filter {
    /// Its word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Capability => "capability",
            Self::Policy => "policy",
            Self::Residency => "residency",
            Self::Path => "path",
            Self::Service => "service",
            Self::Room => "room",
            Self::GroupShare => "groupShare",
            Self::Apart => "apart",
        }
    }
}

/// A subject under one of its personas, and an edge.
pub(super) struct Pair<'a> {
    pub(super) subject: &'a SubjectFacts,
    pub(super) persona: &'a PersonaFacts,
    pub(super) edge: &'a EdgeFacts,
    /// None: nobody measured it.
    pub(super) path: Option<&'a Path>,
}

impl Pair<'_> {
    /// Whether a filter that looks at the pair alone lets it pass; true for the others.
    pub(super) fn passes(&self, filter: Filter, tables: &Tables) -> bool {
        match filter {
            Filter::Group => {
                let group = self.edge.group;
                self.persona.groups.contains(&group) && self.subject.group.is_none_or(|only| only == group)
            }
            Filter::Capability => {
                let wanted = self.subject.requires.mask | self.persona.requires.mask;
                let has_unknown = self.subject.requires.has_unknown || self.persona.requires.has_unknown;
                !has_unknown && wanted & !self.edge.capabilities == 0
            }
            Filter::Policy => {
                let (mine, there) = (self.subject.policies, self.edge.policies);
                let allowing = tables.allow & mine;
                tables.deny & mine & there == 0 && (allowing == 0 || allowing & there != 0)
            }
            Filter::Residency => tables.residency & self.subject.policies & !self.edge.policies == 0,
            Filter::Path => self.persona.path.is_none_or(|limits| keeps_to(self.path, &limits)),
            Filter::Service | Filter::Room | Filter::GroupShare | Filter::Apart => true,
        }
    }

    /// The first filter that refuses the pair.
    pub(super) fn refusal(&self, tables: &Tables) -> Option<Filter> {
        PAIR_FILTERS.into_iter().find(|filter| !self.passes(*filter, tables))
    }
}

fn keeps_to(path: Option<&Path>, limits: &PathLimits) -> bool {
    if *limits == PathLimits::default() {
        return true;
    }
    let Some(path) = path else { return false };
    limits.rtt_ms_max.is_none_or(|most| path.rtt_ms <= most)
        && limits.loss_max.is_none_or(|most| path.loss <= most)
        && limits.jitter_ms_max.is_none_or(|most| path.jitter_ms <= most)
}
