//! A simulation as text for people: how full edges get, what moves, what is refused, and why a subject is where it is.

use std::collections::BTreeMap;

use persona_core::plan::{ConsideredEdge, EdgeFill, Nearest, Outcome, Refusal, SubjectExplanation, WavePlan};

use super::print::{listed, short_time, table_of};
use super::simulate::Simulation;

/// Moves and refusals that a table shows; JSON has all.
const ROW_COUNT_MAX: usize = 20;

/// Edges that a table shows: the fullest, and those that changed most.
const EDGE_COUNT_MAX: usize = 40;

pub(super) fn tell(simulation: &Simulation) -> String {
    let Simulation { node_count, subject_count, edge_count, events, outcome, waves, explanation } = simulation;
    let mut parts = vec![format!("{subject_count} subjects on {node_count} nodes, {edge_count} edges")];
    if !events.is_empty() {
        parts[0].push_str(&format!("; {}", listed(events)));
    }
    parts.push(tell_edges(&outcome.edges));
    parts.push(format!(
        "fullest edge {}; no plan for these subjects can be below {}",
        percent(outcome.fullest),
        percent(outcome.bound)
    ));
    parts.push(tell_moves(outcome, waves));
    if !outcome.waiting.is_empty() {
        parts.push(format!("stay on a draining edge, because no other has room: {}", listed(&outcome.waiting)));
    }
    if !outcome.refusals.is_empty() {
        parts.push(tell_refusals(&outcome.refusals));
    }
    parts.extend(explanation.as_ref().map(tell_explanation));
    parts.join("\n\n")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn tell_edges(edges: &[EdgeFill]) -> String {
    let mut shown: Vec<&EdgeFill> = edges.iter().collect();
    shown.sort_by(|one, other| {
        let changed = |it: &EdgeFill| (it.after - it.before).abs();
        other.after.max(changed(other)).total_cmp(&one.after.max(changed(one)))
    });
    shown.truncate(EDGE_COUNT_MAX);
    shown.sort_by(|one, other| one.edge.cmp(&other.edge));
    let rows = shown.iter().map(|it| {
        [
            it.edge.to_string(),
            it.service.as_str().to_owned(),
            change(&it.subjects_before.to_string(), &it.subjects.to_string()),
            change(&percent(it.before), &percent(it.after)),
            it.dimension.unwrap_or("-").to_owned(),
        ]
    });
    let table = table_of(&["EDGE", "SERVICE", "SUBJECTS", "FILL", "FULLEST IN"], rows, "no edges");
    with_rest(table, edges.len(), shown.len())
}

fn change(before: &str, after: &str) -> String {
    if before == after { after.to_owned() } else { format!("{before} -> {after}") }
}

fn with_rest(table: String, count: usize, shown: usize) -> String {
    if count > shown { format!("{table}\n… and {} more, which --output json tells", count - shown) } else { table }
}

fn tell_moves(outcome: &Outcome, plan: &WavePlan) -> String {
    let rows = outcome.moves.iter().take(ROW_COUNT_MAX).map(|it| {
        let from = it.from.as_ref().map_or("-".to_owned(), ToString::to_string);
        [it.subject.to_string(), from, it.to.to_string(), it.cause.as_str().to_owned()]
    });
    let table = table_of(&["SUBJECT", "FROM", "TO", "WHY"], rows, "nothing moves");
    let count = outcome.moves.len();
    if count == 0 {
        return table;
    }
    let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
    outcome.moves.iter().for_each(|it| *causes.entry(it.cause.as_str()).or_default() += 1);
    let causes = causes.into_iter().map(|(cause, count)| format!("{count} because {cause}"));
    let (by_choice, budget) = (outcome.moved_by_choice, outcome.budget);
    let mut text = with_rest(table, count, count.min(ROW_COUNT_MAX));
    text.push_str(&format!("\n{count} moves: {}. {by_choice} of them could have stayed; {budget} may", listed(causes)));
    let last_ms = plan.waves.last().map_or(0, |wave| wave.at_ms);
    let largest = plan.waves.iter().map(|wave| wave.moves.len()).max().unwrap_or(0);
    let waves = plan.waves.len();
    text.push_str(&format!("\n{waves} waves within {}, {largest} moves in the largest", short_time(last_ms)));
    if !plan.stuck.is_empty() {
        text.push_str(&format!("; {} cannot be made without room in between", plan.stuck.len()));
    }
    text
}

fn tell_refusals(refusals: &[Refusal]) -> String {
    let rows = refusals.iter().take(ROW_COUNT_MAX).map(|it| {
        [it.subject.to_string(), it.reason.clone(), it.nearest.as_ref().map_or("-".to_owned(), tell_nearest)]
    });
    let table = table_of(&["REFUSED", "WHY", "THE NEAREST THING"], rows, "nobody is refused");
    with_rest(table, refusals.len(), refusals.len().min(ROW_COUNT_MAX))
}

fn tell_nearest(nearest: &Nearest) -> String {
    format!("{} on {}: {}", nearest.persona, nearest.edge, listed(&nearest.hints))
}

fn tell_explanation(explanation: &SubjectExplanation) -> String {
    let SubjectExplanation { subject, edge, persona, reason, considered, .. } = explanation;
    let place = match (edge, persona) {
        (Some(edge), Some(persona)) => format!("{subject} is on {edge} as {persona}: {reason}"),
        _ => format!("{subject}: {reason}"),
    };
    let rows = considered.iter().map(|it| {
        let terms: Vec<String> = it.scores.iter().map(|(name, score)| format!("{name} {score:+.1}")).collect();
        let score = if it.refusals.is_empty() { format!("{:.1}", it.score()) } else { "-".to_owned() };
        let persona = it.persona.as_ref().map_or("-".to_owned(), ToString::to_string);
        [
            it.edge.to_string(),
            persona,
            verdict(it),
            score,
            listed(terms),
            percent(it.fill),
            it.hint.clone().unwrap_or_default(),
        ]
    });
    let header = ["EDGE", "PERSONA", "VERDICT", "SCORE", "TERMS", "FILL WITH IT", "WHAT WOULD CHANGE THAT"];
    format!("{place}\n{}", table_of(&header, rows, "no edges"))
}

fn verdict(edge: &ConsideredEdge) -> String {
    let refusals = edge.refusals.iter().map(|it| format!("{}: {}", it.filter.as_str(), it.reason));
    match (edge.chosen, edge.refusals.is_empty()) {
        (true, _) => "chosen".to_owned(),
        (false, true) => "could take it".to_owned(),
        (false, false) => refusals.collect::<Vec<_>>().join("; "),
    }
}
