//! Policies under which one subject's place depends on the others': groups' shares, and subjects kept apart.
//!
//! Counters only; `state` keeps them true while subjects come and go.

use std::collections::HashMap;

use super::filter::Filter;
use super::ground::{Ground, SubjectFacts};
use crate::units::Share;

/// How many are where.
#[derive(Debug)]
pub(super) struct Coupled {
    /// By rule about shares: by group, how many are there.
    group_counts: Vec<Vec<u32>>,
    /// By rule about shares, how many may be.
    limits: Vec<u32>,
    /// By value of a label and edge, how many are there.
    apart_counts: HashMap<(u32, u16), u32>,
}

impl Coupled {
    /// Nobody is anywhere yet.
    pub(super) fn new(ground: &Ground) -> Self {
        let tables = &ground.tables;
        let mut matching = vec![0_u64; tables.shares.len()];
        for facts in &ground.subjects.facts {
            facts.shares.iter().for_each(|rule| matching[usize::from(*rule)] += 1);
        }
        let limit = |(rule, count): (&super::tables::ShareRule, u64)| {
            (count * u64::from(rule.millionths) / u64::from(Share::WHOLE)) as u32
        };
        Self {
            group_counts: vec![vec![0; tables.groups.len()]; tables.shares.len()],
            limits: tables.shares.iter().zip(matching).map(limit).collect(),
            apart_counts: HashMap::new(),
        }
    }

    /// What refuses an edge to a subject that is on another one, or on none.
    pub(super) fn refusal(
        &self,
        ground: &Ground,
        subject: &SubjectFacts,
        from: Option<u16>,
        to: u16,
    ) -> Option<Filter> {
        if subject.shares.is_empty() && subject.aparts.is_empty() {
            return None;
        }
        let group = ground.tables.edges[usize::from(to)].group;
        let stays_in_group = from.is_some_and(|from| ground.tables.edges[usize::from(from)].group == group);
        let is_full = |rule: &u8| {
            let rule = usize::from(*rule);
            let is_for = ground.tables.shares[rule].group.is_none_or(|only| only == group);
            is_for && self.group_counts[rule][usize::from(group)] >= self.limits[rule]
        };
        if !stays_in_group && subject.shares.iter().any(is_full) {
            return Some(Filter::GroupShare);
        }
        let is_crowded = |(rule, value): &(u8, u32)| {
            let most = ground.tables.aparts[usize::from(*rule)].rule.per_edge;
            self.apart_counts.get(&(*value, to)).is_some_and(|count| *count >= most)
        };
        subject.aparts.iter().any(is_crowded).then_some(Filter::Apart)
    }

    /// A subject came to an edge.
    pub(super) fn add(&mut self, ground: &Ground, subject: &SubjectFacts, edge: u16) {
        let group = usize::from(ground.tables.edges[usize::from(edge)].group);
        subject.shares.iter().for_each(|rule| self.group_counts[usize::from(*rule)][group] += 1);
        for (_, value) in &subject.aparts {
            *self.apart_counts.entry((*value, edge)).or_default() += 1;
        }
    }

    /// A subject left an edge.
    pub(super) fn remove(&mut self, ground: &Ground, subject: &SubjectFacts, edge: u16) {
        let group = usize::from(ground.tables.edges[usize::from(edge)].group);
        subject.shares.iter().for_each(|rule| self.group_counts[usize::from(*rule)][group] -= 1);
        for (_, value) in &subject.aparts {
            if let Some(count) = self.apart_counts.get_mut(&(*value, edge)) {
                *count -= 1;
            }
        }
    }

    /// How many of a rule's subjects are in a group, and how many may be.
    pub(super) fn group_fill(&self, rule: u8, group: u16) -> (u32, u32) {
        (self.group_counts[usize::from(rule)][usize::from(group)], self.limits[usize::from(rule)])
    }
}
