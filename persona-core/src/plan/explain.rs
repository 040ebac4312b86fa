//! Why a subject is where it is: every edge with what refuses it, or with its score, and what would change that.
//!
//! Nothing of this is stored. It is worked out again from the fleet and the plan, by the functions that planning asks.

use std::collections::BTreeMap;

use serde::Serialize;

use super::filter::{Filter, PAIR_FILTERS, Pair};
use super::fleet::{Fleet, FleetEdge, Path, Service};
use super::ground::Ground;
use super::level::Levels;
use super::outcome::Plan;
use super::planner::Planner;
use super::read::FleetError;
use super::refuse::{demand_of, free_of};
use super::score::{TERMS, health_score, terms};
use super::state::{NOWHERE, State};
use super::tables::DIMENSIONS;
use super::wording::{pair_reason, points};
use crate::ids::{EdgeName, PersonaName, SubjectId};

/// Why a subject is where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectExplanation {
    /// Who.
    pub subject: SubjectId,
    /// Its edge. None: it has none.
    pub edge: Option<EdgeName>,
    /// The persona that it wears there.
    pub persona: Option<PersonaName>,
    /// What is reserved for it.
    pub demand: super::fleet::Demand,
    /// A sentence for people.
    pub reason: String,
    /// Every edge of the fleet: the chosen one, the others by score, the refused ones.
    pub considered: Vec<ConsideredEdge>,
}

/// An edge that was considered for a subject.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsideredEdge {
    /// Which.
    pub edge: EdgeName,
    /// The persona under which it fits best. None: the subject has none.
    pub persona: Option<PersonaName>,
    /// Whether the subject is on it.
    pub chosen: bool,
    /// What refuses it. Empty: nothing does.
    pub refusals: Vec<EdgeRefusal>,
    /// The terms of its score, in points; those that are zero are left out.
    pub scores: BTreeMap<&'static str, f64>,
    /// How full it would be with the subject on it, 1 is full.
    pub fill: f64,
    /// What would change that it was not chosen.
    pub hint: Option<String>,
}

/// What a filter says against an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeRefusal {
    /// Which filter.
    pub filter: Filter,
    /// What is wrong.
    pub reason: String,
    /// What would change it.
    pub hint: String,
}

impl ConsideredEdge {
    /// The sum of its terms, in points.
    pub fn score(&self) -> f64 {
        self.scores.values().sum()
    }

    /// Whether there is nothing wrong with it but that it is full.
    pub(super) fn lacks_room_only(&self) -> bool {
        !self.refusals.is_empty() && self.refusals.iter().all(|refusal| refusal.filter == Filter::Room)
    }
}

/// Explains a subject's place in a recorded plan for a recorded fleet. None: the fleet has no such subject.
pub fn explain(fleet: Fleet, plan: &Plan, subject: &SubjectId) -> Result<Option<SubjectExplanation>, Vec<FleetError>> {
    Ok(Planner::new(fleet, plan)?.explain(subject))
}

/// The explanation of a subject; `edge` is where the plan has it, whether or not that still holds.
pub(super) fn explanation(state: &State<'_>, subject: usize, edge: u16) -> SubjectExplanation {
    let ground = state.ground;
    let mut edges = considered(state, subject);
    let chosen = edges.iter().position(|edge| edge.chosen);
    let stickiness = ground.fleet.planning.stickiness;
    if let Some(chosen) = chosen {
        edges[chosen].scores.insert("stickiness", stickiness);
    }
    let levels = Levels::new(ground, &ground.find_components());
    add_hints(state, &levels, chosen, &mut edges);
    let able = edges.iter().filter(|edge| edge.refusals.is_empty()).count();
    let recorded = ground.fleet.edges.get(usize::from(edge)).map(|edge| edge.name.clone());
    let reason = match (chosen, recorded.as_ref()) {
        (Some(_), _) if able == 1 => "the only edge that can take it".to_owned(),
        (Some(chosen), _) => reason_among(&edges, chosen, able),
        (None, Some(edge)) => format!("the plan has it on {edge}, which no longer holds: plan again"),
        (None, None) => format!("it has no edge; {able} of {} could take it", edges.len()),
    };
    let persona = chosen.and_then(|chosen| edges[chosen].persona.clone());
    edges.sort_by(|one, other| {
        let rank = |edge: &ConsideredEdge| (!edge.chosen, !edge.refusals.is_empty());
        rank(one).cmp(&rank(other)).then_with(|| other.score().total_cmp(&one.score()))
    });
    let demand = demand_of(&ground.subjects.facts[subject].demand);
    SubjectExplanation {
        subject: ground.subjects.ids[subject].clone(),
        edge: recorded,
        persona,
        demand,
        reason,
        considered: edges,
    }
}

fn reason_among(edges: &[ConsideredEdge], chosen: usize, able: usize) -> String {
    let score = edges[chosen].score();
    let better = edges.iter().filter(|edge| edge.refusals.is_empty() && !edge.chosen && edge.score() > score).count();
    match better {
        0 => format!("the best of {able} edges that can take it"),
        _ => format!("the best of {able} edges that can take it without getting too full; {better} would score better"),
    }
}

fn add_hints(state: &State<'_>, levels: &Levels, chosen: Option<usize>, edges: &mut [ConsideredEdge]) {
    let best = chosen.map(|index| (edges[index].edge.clone(), edges[index].score()));
    for (index, edge) in edges.iter_mut().enumerate() {
        if edge.chosen {
            continue;
        }
        edge.hint = match (&best, edge.refusals.is_empty()) {
            (_, false) => Some(edge.refusals.iter().map(|it| it.hint.as_str()).collect::<Vec<_>>().join("; ")),
            (None, true) => Some("plan again".to_owned()),
            (Some((name, score)), true) if edge.score() <= *score => Some(format!(
                "it is {} points behind {name}: prefer a capability that it has, or shorten the path to it",
                points(score - edge.score())
            )),
            (Some(_), true) => {
                let most = levels.enough[index].max(state.fills.iter().copied().fold(0.0, f64::max));
                let (fill, most) = (100.0 * edge.fill, 100.0 * most);
                Some(match edge.fill * 100.0 > 100.0 * levels.enough[index] {
                    true => format!(
                        "it would be {fill:.1} % full, and edges are kept below {most:.1} %: give it capacity, or raise planning.comfort"
                    ),
                    false => "it is better and has room: the next plan may move the subject".to_owned(),
                })
            }
        };
    }
}

/// Every edge as it stands for a subject, in the order of edges.
pub(super) fn considered(state: &State<'_>, subject: usize) -> Vec<ConsideredEdge> {
    let ground = state.ground;
    let node = ground.subjects.ids[subject].node();
    let nodes = &ground.fleet.nodes;
    let node = nodes.binary_search_by(|other| other.name.cmp(node)).ok().map(|index| &nodes[index]);
    let edges = ground.fleet.edges.iter().enumerate();
    edges
        .map(|(index, edge)| consider(state, subject, index, edge, node.and_then(|node| node.paths.get(&edge.name))))
        .collect()
}

fn consider(state: &State<'_>, subject: usize, index: usize, edge: &FleetEdge, path: Option<&Path>) -> ConsideredEdge {
    let (ground, number) = (state.ground, index as u16);
    let facts = &ground.subjects.facts[subject];
    let pair = |persona: u16| {
        let persona = &ground.tables.personas[usize::from(persona)];
        Pair { subject: facts, persona, edge: &ground.tables.edges[index], path }
    };
    let against = |pair: &Pair<'_>| {
        PAIR_FILTERS.into_iter().filter(|filter| !pair.passes(*filter, &ground.tables)).collect::<Vec<_>>()
    };
    let best = facts.personas.iter().enumerate().min_by_key(|(_, persona)| against(&pair(**persona)).len());
    let chosen = state.edge_of[subject] == number;
    let Some((position, persona)) = best else {
        return ConsideredEdge {
            edge: edge.name.clone(),
            persona: None,
            chosen,
            refusals: Vec::new(),
            scores: BTreeMap::new(),
            fill: state.fills[index],
            hint: None,
        };
    };
    let best = pair(*persona);
    let told = &ground.fleet.personas[usize::from(*persona)];
    let mut refusals: Vec<EdgeRefusal> =
        against(&best).into_iter().map(|filter| pair_reason(filter, ground, subject, told, edge, path)).collect();
    refusals.extend(service_reason(edge));
    if !chosen {
        refusals.extend(room_reason(state, subject, number));
        refusals.extend(coupled_reason(state, subject, number));
    }
    let scores = TERMS.into_iter().zip(terms(&best, index, position)).chain([("health", health_score(edge.service))]);
    ConsideredEdge {
        edge: edge.name.clone(),
        persona: Some(told.name.clone()),
        chosen,
        refusals,
        scores: scores.filter(|(_, score)| *score != 0).map(|(name, it)| (name, f64::from(it) / 1_000.0)).collect(),
        fill: if chosen { state.fills[index] } else { fill_if(ground, state, subject, index) },
        hint: None,
    }
}

/// How full an edge would be with a subject more, also beyond what it has room for.
fn fill_if(ground: &Ground, state: &State<'_>, subject: usize, index: usize) -> f64 {
    let units = state.loads[index].iter().zip(ground.subjects.facts[subject].demand);
    let parts = units.zip(ground.tables.edges[index].per_unit);
    parts.map(|((load, units), per_unit)| (*load as f64 + units as f64) * per_unit).fold(0.0, f64::max)
}

fn service_reason(edge: &FleetEdge) -> Option<EdgeRefusal> {
    let hint = match edge.service {
        Service::Serving | Service::Degraded => return None,
        Service::Draining => format!("end the drain of {}", edge.name),
        Service::Maintenance => format!("end the maintenance of {}", edge.name),
        Service::Down => format!("repair {}", edge.name),
    };
    Some(EdgeRefusal { filter: Filter::Service, reason: format!("it is {}", edge.service.as_str()), hint })
}

fn room_reason(state: &State<'_>, subject: usize, edge: u16) -> Option<EdgeRefusal> {
    let demand = state.ground.subjects.facts[subject].demand;
    let free = free_of(state, edge);
    let short = (0..demand.len()).find(|dimension| demand[*dimension] > free[*dimension])?;
    let what = DIMENSIONS[short];
    Some(EdgeRefusal {
        filter: Filter::Room,
        reason: format!("{} {what} are needed, {} are free", demand[short], free[short]),
        hint: format!("give it {} more {what}, or ask for less", demand[short] - free[short]),
    })
}

fn coupled_reason(state: &State<'_>, subject: usize, edge: u16) -> Option<EdgeRefusal> {
    let ground = state.ground;
    let facts = &ground.subjects.facts[subject];
    let from = Some(state.edge_of[subject]).filter(|edge| *edge != NOWHERE);
    let filter = state.coupled.refusal(ground, facts, from, edge)?;
    let policy = |index: usize| &ground.fleet.policies[index].name;
    let group = ground.tables.edges[usize::from(edge)].group;
    let fill = |rule: &&u8| state.coupled.group_fill(**rule, group);
    let full = facts.shares.iter().find(|rule| fill(rule).0 >= fill(rule).1);
    Some(match (filter, full, facts.aparts.first()) {
        (Filter::GroupShare, Some(rule), _) => {
            let ((count, most), name) = (fill(&rule), policy(ground.tables.shares[usize::from(*rule)].policy));
            let reason = format!("policy {name}: its group has {count} of at most {most}");
            EdgeRefusal { filter, reason, hint: format!("raise the share in policy {name}") }
        }
        (_, _, Some((rule, _))) => {
            let rule = &ground.tables.aparts[usize::from(*rule)];
            let (name, label) = (policy(rule.policy), &rule.rule.label);
            let reason = format!("policy {name}: {} with its {label} there already", rule.rule.per_edge);
            EdgeRefusal { filter, reason, hint: format!("raise perEdge in policy {name}, or add edges") }
        }
        _ => {
            EdgeRefusal { filter, reason: "a policy about others refuses it".to_owned(), hint: "change it".to_owned() }
        }
    })
}
