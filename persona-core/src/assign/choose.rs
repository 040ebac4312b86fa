//! The decision: refuse what cannot be worn, score the rest, pick the best.

use std::collections::BTreeMap;

use super::question::{Activated, Candidate, GroupFacts, PoolFacts, Question};
use super::{capacity, closeness, fitness, policy, score};
use crate::compose::Layer;
use crate::content::ContentSource;
use crate::document::{Family, Network, PersonaSpec};
use crate::ids::{GroupName, PersonaName, PoolName};
use crate::lease::Need;
use crate::wire::api::Considered;

/// What was decided, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The persona to wear. None: none can be worn.
    pub pick: Option<Pick>,
    /// Every candidate, the best first, the refused ones last.
    pub considered: Vec<Considered>,
}

/// The persona to wear.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick {
    /// Which.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// Who decided.
    pub layer: Layer,
    /// The group that carries it.
    pub group: GroupName,
    /// The pool to lease from.
    pub pool: PoolName,
    /// Whether it only stays because nothing else can be worn either.
    pub is_stopgap: bool,
    /// A sentence for people.
    pub reason: String,
}

/// Why a candidate cannot be worn.
pub(super) struct Obstacle {
    refusal: String,
    hint: String,
    /// It may pass by itself: an edge comes back, blocks become free.
    passes: bool,
}

impl Obstacle {
    /// One that does not pass by itself; what is worn is taken off.
    pub(super) fn lasting(refusal: String, hint: String) -> Self {
        Self { refusal, hint, passes: false }
    }

    /// One that may pass by itself; what is worn stays in spite of it.
    pub(super) fn passing(refusal: String, hint: String) -> Self {
        Self { refusal, hint, passes: true }
    }
}

/// A pool that a candidate could lease from.
struct Place<'a> {
    pool: &'a PoolName,
    facts: &'a PoolFacts,
    is_full: bool,
    serves: bool,
    /// Whether it has what the persona would rather have: IPv6, where that is preferred.
    is_preferred: bool,
    obstacles: Vec<Obstacle>,
}

/// A candidate that was looked at.
struct Judged<'a> {
    candidate: &'a Candidate<'a>,
    place: Option<(&'a PoolName, &'a PoolFacts)>,
    obstacles: Vec<Obstacle>,
    scores: BTreeMap<String, f64>,
}

impl Judged<'_> {
    fn total(&self) -> f64 {
        self.scores.values().sum()
    }

    fn is_able(&self) -> bool {
        self.obstacles.is_empty() && self.place.is_some()
    }

    /// What is worn stays through troubles that may pass.
    fn may_stay(&self, question: &Question<'_>) -> bool {
        let is_worn = question.worn == Some(self.candidate.persona);
        is_worn && self.place.is_some() && self.obstacles.iter().all(|obstacle| obstacle.passes)
    }
}

/// Decides what a subject wears in its network section.
pub fn choose(question: &Question<'_>) -> Decision {
    let mut judged: Vec<_> = question.candidates.iter().map(|candidate| judge(question, candidate)).collect();
    // Stable: of equals the one that was named first comes first.
    judged
        .sort_by(|one, other| other.is_able().cmp(&one.is_able()).then_with(|| other.total().total_cmp(&one.total())));
    let best = judged.first().filter(|first| first.is_able());
    let chosen = best.or_else(|| judged.iter().find(|judged| judged.may_stay(question)));
    let pick = chosen.and_then(|chosen| pick(question, chosen, &judged));
    let considered = judged.iter().map(|judged| considered(judged, pick.as_ref(), best)).collect();
    Decision { pick, considered }
}

fn judge<'a>(question: &'a Question<'a>, candidate: &'a Candidate<'a>) -> Judged<'a> {
    let mut judged = Judged { candidate, place: None, obstacles: Vec::new(), scores: BTreeMap::new() };
    let persona = candidate.persona;
    let Some(spec) = candidate.spec else {
        judged
            .obstacles
            .push(Obstacle::lasting("there is no such persona".into(), format!("apply a persona named {persona}")));
        return judged;
    };
    let Some(network) = &spec.network else {
        judged.obstacles.push(Obstacle::lasting("it has no network section".into(), "give it one".into()));
        return judged;
    };
    if question.keeps_network {
        let refusal = "it has a network section, and the workload keeps its ordinary network: its node knows neither a device nor a cgroup of it";
        let hint = "set device or cgroup for it in the agent's file of its node, or give it a persona without a network section";
        judged.obstacles.push(Obstacle::lasting(refusal.into(), hint.into()));
        return judged;
    }
    judged.obstacles.extend(missing_capabilities(question, candidate, spec));
    judged.obstacles.extend(unmet_criteria(question, candidate));
    match place(question, candidate, spec, network) {
        Err(obstacle) => judged.obstacles.push(obstacle),
        Ok(Place { pool, facts, obstacles, .. }) => {
            judged.place = Some((pool, facts));
            judged.obstacles.extend(obstacles);
            let nothing = GroupFacts::default();
            let group = question.groups.get(&facts.group).unwrap_or(&nothing);
            judged.scores = score::terms(question, candidate, spec, group);
        }
    }
    judged
}

fn missing_capabilities(question: &Question<'_>, candidate: &Candidate<'_>, spec: &PersonaSpec) -> Option<Obstacle> {
    let wanted = candidate.required.iter().chain(question.requested);
    let mut missing: Vec<&str> = Vec::new();
    for capability in wanted.filter(|capability| !spec.capabilities.contains(capability)) {
        if !missing.contains(&capability.as_str()) {
            missing.push(capability.as_str());
        }
    }
    let list = missing.join(", ");
    let hint = format!("add {list} to spec.capabilities of {} if that is true, or ask for less", candidate.persona);
    (!missing.is_empty()).then(|| Obstacle::lasting(format!("it lacks the capabilities {list}"), hint))
}

/// A persona with rules is worn while one of them is in; a person or a request may put it on all the same.
fn unmet_criteria(question: &Question<'_>, candidate: &Candidate<'_>) -> Option<Obstacle> {
    let is_asked_for = question.manual == Some(candidate.persona) || !question.requested.is_empty();
    let waits = candidate.is_conditional && !is_asked_for && !question.has_activated(candidate.persona);
    let hint =
        "persona-ctl activation status says what they wait for; switch by hand, or make it its binding's default";
    waits.then(|| Obstacle::lasting("none of its activation criteria lets it be worn".into(), hint.into()))
}

/// The pool to lease from: the one held, else the first with room, else the first at all with what is wrong. Where edges shall be
/// close to some content, of those with room the one whose group is the closest; the one held stays unless that is clearly better.
fn place<'a>(
    question: &Question<'a>,
    candidate: &Candidate<'a>,
    spec: &PersonaSpec,
    network: &Network,
) -> Result<Place<'a>, Obstacle> {
    let pools = network.egress.pools.iter().filter_map(|name| question.pools.get_key_value(name));
    let of_group = |(_, facts): &(&PoolName, &PoolFacts)| network.group().is_none_or(|group| *group == facts.group);
    let of_group: Vec<(&PoolName, &PoolFacts)> = pools.filter(of_group).collect();
    if of_group.is_empty() {
        return Err(no_pool(network));
    }
    let mut usable: Vec<_> = of_group.iter().filter_map(|(name, it)| Some((*name, *it, it.needs(network)?))).collect();
    if network.family() == Family::PreferIpv6 {
        // Stable: among those with IPv6, and among those without, the order of the document stays.
        usable.sort_by_key(|(_, facts, _)| facts.prefix_count == 0);
    }
    let judged = usable
        .iter()
        .map(|(pool, facts, needs)| judge_place(question, candidate, (spec, network), (pool, facts), needs));
    let mut places: Vec<Place<'a>> = judged.collect();
    let is_held = |place: &Place<'_>| Some(place.pool) == candidate.held;
    let held = places.iter().position(|place| is_held(place) && place.obstacles.iter().all(|it| it.passes));
    let open = || places.iter().position(|place| place.obstacles.is_empty());
    let nearest = || (0..places.len()).min_by_key(|index| (places[*index].is_full, !places[*index].serves));
    let closest = closeness::source(question, network).and_then(|source| closest(question, source, &places, held));
    let found = closest.or(held).or_else(open).or_else(nearest).ok_or_else(|| no_family(network))?;
    Ok(places.swap_remove(found))
}

/// Of the places that are open, the one closest to the content; of equals the first. None: none is open, or what is held has a trouble
/// that may pass and stays through it.
fn closest(
    question: &Question<'_>,
    source: &ContentSource,
    places: &[Place<'_>],
    held: Option<usize>,
) -> Option<usize> {
    let points = |index: usize| {
        let group = question.groups.get(&places[index].facts.group);
        let stays = if held == Some(index) { score::STICKINESS } else { 0.0 };
        group.map_or(f64::MIN, |group| closeness::points(source, group)) + stays
    };
    let is_open = |index: &usize| places[*index].obstacles.is_empty();
    if held.is_some_and(|held| !is_open(&held)) {
        return None;
    }
    // Which family packets leave with comes before how far they go; what is held has been chosen so already.
    let rank = |index: usize| (places[index].is_preferred || held == Some(index), points(index));
    let better = |best: usize, index: usize| {
        let ((of_best, best_points), (of_other, points)) = (rank(best), rank(index));
        if (of_other, points) > (of_best, best_points) { index } else { best }
    };
    (0..places.len()).filter(is_open).reduce(better)
}

fn judge_place<'a>(
    question: &Question<'a>,
    candidate: &Candidate<'a>,
    (spec, network): (&PersonaSpec, &Network),
    (pool, facts): (&'a PoolName, &'a PoolFacts),
    needs: &[Need],
) -> Place<'a> {
    let nothing = GroupFacts::default();
    let group = question.groups.get(&facts.group).unwrap_or(&nothing);
    let is_held = candidate.held == Some(pool);
    let full = full_pool(pool, facts, needs).filter(|_| !is_held);
    let (is_full, serves) = (full.is_some(), !group.serving.is_empty());
    let mut obstacles = policy::obstacles(question, &facts.group, group);
    obstacles.extend(full);
    obstacles.extend(group_obstacle(&facts.group, group, network));
    obstacles.extend(fitness::obstacles(question, candidate, network, (&facts.group, group)));
    let lease_count = if is_held { 0 } else { needs.len() };
    obstacles.extend(capacity::obstacles(question, candidate, spec, (&facts.group, group), lease_count));
    let is_preferred = network.family() != Family::PreferIpv6 || facts.prefix_count > 0;
    Place { pool, facts, is_full, serves, is_preferred, obstacles }
}

fn full_pool(name: &PoolName, facts: &PoolFacts, needs: &[Need]) -> Option<Obstacle> {
    let lacking = needs.iter().find(|need| !facts.has_room(**need))?;
    let (shortage, remedy) = facts.shortage(name, *lacking);
    Some(Obstacle::passing(format!("pool {name} is full: {shortage}"), remedy))
}

fn no_family(network: &Network) -> Obstacle {
    let names: Vec<_> = network.egress.pools.iter().map(PoolName::as_str).collect();
    let (family, missing) = match network.family() {
        Family::Ipv6 => ("ipv6", "IPv6 prefixes"),
        Family::Ipv4 | Family::PreferIpv6 => ("ipv4", "IPv4 addresses"),
    };
    let refusal = format!("none of its pools ({}) has {missing}, which family: {family} needs", names.join(", "));
    Obstacle::lasting(refusal, format!("add {missing} to one of them, or change network.egress.family"))
}

fn no_pool(network: &Network) -> Obstacle {
    let names: Vec<_> = network.egress.pools.iter().map(PoolName::as_str).collect();
    let names = names.join(", ");
    match network.group() {
        None => Obstacle::lasting(format!("none of its pools exists ({names})"), "apply such an egress pool".into()),
        Some(group) => {
            let hint = format!("apply an egress pool with that name and group {group}");
            Obstacle::lasting(format!("none of its pools ({names}) exists and belongs to edge group {group}"), hint)
        }
    }
}

fn group_obstacle(name: &GroupName, group: &GroupFacts, network: &Network) -> Option<Obstacle> {
    let needed = usize::from(network.edges.as_ref().and_then(|edges| edges.spread).unwrap_or(1).max(1));
    if group.serving.len() >= needed {
        return wire_obstacle(name, group, network);
    }
    let others: Vec<_> = group.not_serving.iter().map(|(edge, reason)| format!("{edge}: {reason}")).collect();
    let refusal = match others.is_empty() {
        true => format!("edge group {name} has {} serving edges, {needed} are needed", group.serving.len()),
        false => format!(
            "edge group {name} has {} serving edges, {needed} are needed ({})",
            group.serving.len(),
            others.join("; ")
        ),
    };
    Some(Obstacle::passing(refusal, format!("start or repair an edge of group {name}")))
}

/// An encrypted persona is worn only where all that may carry it can encrypt.
fn wire_obstacle(name: &GroupName, group: &GroupFacts, network: &Network) -> Option<Obstacle> {
    if !network.encrypts() || group.unencrypted.is_empty() {
        return None;
    }
    let refusal = format!(
        "it is encrypted towards edge group {name}, and there is no WireGuard at {}",
        group.unencrypted.join(", ")
    );
    let hint = "let doctor say there what WireGuard lacks, or leave spec.network.privacy.encrypt out".to_owned();
    Some(Obstacle::passing(refusal, hint))
}

fn pick(question: &Question<'_>, chosen: &Judged<'_>, judged: &[Judged<'_>]) -> Option<Pick> {
    let (pool, facts) = chosen.place?;
    let candidate = chosen.candidate;
    let layer = match () {
        () if question.manual == Some(candidate.persona) => Layer::Manual,
        () if !question.requested.is_empty() => Layer::Request,
        () if question.has_activated(candidate.persona) => Layer::Activation,
        () => candidate.layer,
    };
    let is_stopgap = !chosen.is_able();
    Some(Pick {
        persona: candidate.persona.clone(),
        version: candidate.version,
        layer,
        group: facts.group.clone(),
        pool: pool.clone(),
        is_stopgap,
        reason: reason(question, chosen, judged, is_stopgap),
    })
}

fn reason(question: &Question<'_>, chosen: &Judged<'_>, judged: &[Judged<'_>], is_stopgap: bool) -> String {
    if is_stopgap {
        let why: Vec<_> = chosen.obstacles.iter().map(|obstacle| obstacle.refusal.as_str()).collect();
        return format!("it stays because no other persona can be worn either, although {}", why.join("; "));
    }
    if question.manual == Some(chosen.candidate.persona) {
        return "switched by hand".to_owned();
    }
    let mut parts = Vec::new();
    match question.activated {
        Some(activated) if activated.persona == chosen.candidate.persona => parts.push(activated.reason.to_owned()),
        Some(Activated { persona, .. }) => {
            let wanted = judged.iter().find(|other| other.candidate.persona == persona && !other.is_able());
            parts.extend(wanted.map(|_| format!("{persona}, whose criteria hold, cannot be worn")));
        }
        None => {}
    }
    if let Some(manual) = question.manual.and_then(|name| judged.iter().find(|other| other.candidate.persona == name)) {
        parts.push(format!("{}, which was switched by hand, cannot be worn", manual.candidate.persona));
    }
    if !question.requested.is_empty() {
        let names: Vec<_> = question.requested.iter().map(|capability| capability.as_str()).collect();
        parts.push(format!("it has the requested {}", names.join(", ")));
    }
    let before = |other: &&Judged<'_>| other.candidate.position < chosen.candidate.position && !other.is_able();
    for other in judged.iter().filter(before) {
        let why = other.obstacles.first().map_or("", |obstacle| obstacle.refusal.as_str());
        parts.push(format!("{} was refused: {why}", other.candidate.persona));
    }
    let able = judged.iter().filter(|other| other.is_able()).count();
    parts.push(match able {
        1 => "the only persona that can be worn".to_owned(),
        count => format!("the best of {count} personas that can be worn"),
    });
    parts.join("; ")
}

fn considered(judged: &Judged<'_>, pick: Option<&Pick>, best: Option<&Judged<'_>>) -> Considered {
    let chosen = pick.is_some_and(|pick| pick.persona == *judged.candidate.persona);
    let hints: Vec<_> = judged.obstacles.iter().map(|obstacle| obstacle.hint.as_str()).collect();
    let hint = match (hints.is_empty(), chosen, best) {
        (false, ..) => Some(hints.join("; ")),
        (true, false, Some(best)) => Some(format!(
            "its score is {:.1} below {}: put it further up in the binding, prefer a capability it has, or switch by hand",
            best.total() - judged.total(),
            best.candidate.persona
        )),
        _ => None,
    };
    Considered {
        persona: judged.candidate.persona.clone(),
        version: judged.candidate.version,
        chosen,
        refusals: judged.obstacles.iter().map(|obstacle| obstacle.refusal.clone()).collect(),
        scores: judged.scores.clone(),
        hint,
    }
}

#[cfg(test)]
mod tests;
