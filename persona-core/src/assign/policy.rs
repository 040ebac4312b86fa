//! Policies about where a subject may be, as obstacles to a group.
//!
//! A group carries a subject as a whole: any of its edges may carry a flow, and the one that owns the egress address takes in what
//! comes back. So a group is closed to a subject by one edge that a policy forbids; whoever is there leaves at once. Shares and
//! distance bound who comes; whoever is there already stays as long as there is nothing else to wear.

use super::choose::Obstacle;
use super::ledger::{Labels, Ledger, Spread};
use super::question::{GroupEdge, GroupFacts, Question};
use crate::ids::GroupName;
use crate::plan::{FleetPolicy, Rule};

/// Whether a policy forbids a group to a subject with these labels, whoever asks.
pub fn is_forbidden(ledger: &Ledger, labels: &Labels, name: &GroupName, group: &GroupFacts) -> bool {
    forbidding(ledger, labels, name, group).next().is_some()
}

/// Why policies keep a candidate out of a group.
pub(super) fn obstacles(question: &Question<'_>, name: &GroupName, group: &GroupFacts) -> Vec<Obstacle> {
    let Question { ledger, labels, .. } = question;
    let forbidden = forbidding(ledger, labels, name, group);
    let crowded = ledger.policies_for(labels).filter_map(|it| crowding(question, it, name, group));
    forbidden.chain(crowded).collect()
}

fn forbidding<'a>(
    ledger: &'a Ledger,
    labels: &'a Labels,
    name: &'a GroupName,
    group: &'a GroupFacts,
) -> impl Iterator<Item = Obstacle> + 'a {
    let allows = |edge: &GroupEdge| {
        let rules = ledger.policies_for(labels);
        let mut allowing = rules.filter_map(|(_, policy)| match &policy.rule {
            Rule::Allow(selector) => Some(selector.selects(&edge.name, name, &edge.labels)),
            _ => None,
        });
        allowing.any(|is_allowed| is_allowed)
    };
    let forbids = move |policy: &FleetPolicy, edge: &GroupEdge| match &policy.rule {
        Rule::Allow(_) => (!allows(edge)).then(|| "allows others only".to_owned()),
        Rule::Deny(selector) => selector.selects(&edge.name, name, &edge.labels).then(|| "denies it".to_owned()),
        Rule::Residency(countries) => outside(countries, edge),
        Rule::MaxGroupShare(_) | Rule::Apart(_) => None,
    };
    ledger.policies_for(labels).filter_map(move |(_, policy)| {
        let (edge, why) = group.edges.iter().find_map(|edge| Some((edge, forbids(policy, edge)?)))?;
        let (policy, edge) = (&policy.name, &edge.name);
        Some(Obstacle::lasting(
            format!("policy: {policy} {why}: edge {edge}, which may carry it in group {name}"),
            format!("put edge {edge} into another group, name a pool of a group of which policy {policy} forbids no edge, or change the policy"),
        ))
    })
}

fn outside(countries: &[String], edge: &GroupEdge) -> Option<String> {
    let inside = countries.join(", ");
    match &edge.country {
        Some(country) if countries.contains(country) => None,
        Some(country) => Some(format!("keeps it in {inside}, not in {country}")),
        None => Some(format!("keeps it in {inside}, and no label that is bound says in which country this is")),
    }
}

/// What a policy about shares or distance has against one more.
fn crowding(
    question: &Question<'_>,
    (at, policy): (usize, &FleetPolicy),
    name: &GroupName,
    group: &GroupFacts,
) -> Option<Obstacle> {
    let (ledger, who) = (question.ledger, &policy.name);
    match &policy.rule {
        Rule::MaxGroupShare(rule) if rule.group.as_ref().is_none_or(|only| only == name) => {
            let [there, all, most] = ledger.share(question.subject, at, rule, name);
            let refusal = format!(
                "policy: {who} lets {most} of the {all} that it is for be in group {name} ({}), and {there} are",
                rule.share
            );
            let hint = format!("raise the share in policy {who}, or name a pool of another group");
            (there >= most).then(|| Obstacle::passing(refusal, hint))
        }
        Rule::Apart(rule) => {
            let value = question.labels.get(&rule.label)?;
            // A group is planned once every edge of it states what it can carry; the others are left to weights.
            let is_planned = group.unstated_count == 0 && group.lease_capacity.is_some();
            let spread = if is_planned { ledger.spread() } else { Spread::Group };
            let there = ledger.alike(question.subject, at, value, name);
            let (count, label) = (rule.per_edge, &rule.label);
            let (most, how) = match spread {
                Spread::Group => (count, "each of which carries all"),
                Spread::Edge => (count.saturating_mul(group.edges.len() as u32), "of which one carries each"),
            };
            let refusal = format!(
                "policy: {who} keeps those of {label} {value} apart, {count} on an edge: {there} are in group {name} with {} edges, {how}",
                group.edges.len()
            );
            let hint = format!(
                "raise perEdge in policy {who}, have the plan steer over more edges, or name a pool of another group"
            );
            (there >= most).then(|| Obstacle::passing(refusal, hint))
        }
        _ => None,
    }
}
