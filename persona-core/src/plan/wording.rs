//! Sentences about a subject and an edge that do not go together.

use super::explain::EdgeRefusal;
use super::filter::Filter;
use super::fleet::{FleetEdge, FleetPersona, Path};
use super::ground::Ground;
use super::policy::Rule;
use crate::ids::Capability;

/// Points with as many digits as matter.
pub(super) fn points(points: f64) -> String {
    format!("{points:.1}")
}

/// What a filter that refuses a pair has against it, and what would change that.
pub(super) fn pair_reason(
    filter: Filter,
    ground: &Ground,
    subject: usize,
    persona: &FleetPersona,
    edge: &FleetEdge,
    path: Option<&Path>,
) -> EdgeRefusal {
    let (reason, hint) = match filter {
        Filter::Group if persona.groups.contains(&edge.group) => (
            format!("it holds its lease in another group than {}", edge.group),
            format!("have it lease from a pool of group {}", edge.group),
        ),
        Filter::Group => (
            format!("persona {} is not carried by group {}", persona.name, edge.group),
            format!("add {} to the groups of {}", edge.group, persona.name),
        ),
        Filter::Capability => capability(ground, subject, persona, edge),
        Filter::Policy => policy(ground, subject, edge),
        Filter::Residency => residency(ground, subject, edge),
        Filter::Path => quality(persona, path),
        Filter::Service | Filter::Room | Filter::GroupShare | Filter::Apart => {
            unreachable!("pairs are not asked about these")
        }
    };
    EdgeRefusal { filter, reason, hint }
}

fn capability(ground: &Ground, subject: usize, persona: &FleetPersona, edge: &FleetEdge) -> (String, String) {
    let id = &ground.subjects.ids[subject];
    let node = ground.fleet.nodes.iter().find(|node| node.name == *id.node());
    let own = node.and_then(|node| node.subjects.iter().find(|it| it.id(&node.name) == *id));
    let asked = persona.requires.iter().chain(own.into_iter().flat_map(|own| &own.requires));
    let missing: Vec<&str> =
        asked.filter(|capability| !edge.capabilities.contains(capability)).map(Capability::as_str).collect();
    let list = missing.join(", ");
    (
        format!("it lacks the capabilities {list}"),
        format!("bind {list} to {} if that is true (label capability/NAME), or ask for less", edge.name),
    )
}

fn policy(ground: &Ground, subject: usize, edge: &FleetEdge) -> (String, String) {
    let mine = ground.subjects.facts[subject].policies;
    let rules = ground.fleet.policies.iter().enumerate().filter(|(bit, _)| mine & (1 << bit) != 0);
    let rules: Vec<_> = rules.map(|(_, policy)| policy).collect();
    let denies = |rule: &Rule| matches!(rule, Rule::Deny(selector) if selector.matches(edge));
    if let Some(policy) = rules.iter().find(|policy| denies(&policy.rule)) {
        return (format!("policy {} denies it", policy.name), format!("change policy {}", policy.name));
    }
    let allowing = rules.iter().filter(|policy| matches!(policy.rule, Rule::Allow(_)));
    let names: Vec<&str> = allowing.map(|policy| policy.name.as_str()).collect();
    let names = names.join(", ");
    (format!("policy {names} allows others only"), format!("add it to policy {names}"))
}

fn residency(ground: &Ground, subject: usize, edge: &FleetEdge) -> (String, String) {
    let mine = ground.subjects.facts[subject].policies;
    let country = edge.location.as_ref().map(|location| location.country.as_str());
    let refusing = ground.fleet.policies.iter().enumerate().find_map(|(bit, policy)| match &policy.rule {
        Rule::Residency(countries) if mine & (1 << bit) != 0 => {
            let is_inside = country.is_some_and(|country| countries.iter().any(|it| it == country));
            (!is_inside).then_some((&policy.name, countries))
        }
        _ => None,
    });
    let (name, countries) = refusing.expect("a policy about residency refused the pair");
    let inside = countries.join(", ");
    match country {
        Some(country) => (
            format!("it is in {country}, and policy {name} keeps the subject in {inside}"),
            format!("add an edge in {inside}, or change policy {name}"),
        ),
        None => (
            format!("nobody says where it is, and policy {name} keeps the subject in {inside}"),
            format!("bind its country if that is right: persona-ctl edge label {} country=CODE", edge.name),
        ),
    }
}

fn quality(persona: &FleetPersona, path: Option<&Path>) -> (String, String) {
    let Some(path) = path else {
        return (
            format!("nobody measured the path to it, and persona {} sets limits", persona.name),
            "let the node probe it".to_owned(),
        );
    };
    let limits = persona.path.unwrap_or_default();
    let mut wrong = Vec::new();
    if let Some(most) = limits.rtt_ms_max.filter(|most| path.rtt_ms > *most) {
        wrong.push(format!("{} ms of round trip, at most {most} are allowed", path.rtt_ms));
    }
    if let Some(most) = limits.loss_max.filter(|most| path.loss > *most) {
        wrong.push(format!("{} of packets lost, at most {most} is allowed", path.loss));
    }
    if let Some(most) = limits.jitter_ms_max.filter(|most| path.jitter_ms > *most) {
        wrong.push(format!("{} ms of jitter, at most {most} are allowed", path.jitter_ms));
    }
    (wrong.join("; "), format!("widen path in persona {}, or mend the path", persona.name))
}
