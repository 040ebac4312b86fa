//! Replays: a trace of one subject's signals through personas' rules, as an agent and the manager would see it.

use std::collections::{BTreeMap, BTreeSet};

use persona_core::activate::{Decision, Fleet, Moment, Outcome, RuleSet, Story, SubjectIndex};
use persona_core::document::{FlapBudget, Section};
use persona_core::signal::{Board, Input, STALE_AFTER_DEFAULT_MS, SignalName};
use serde::Serialize;

use crate::trace::Row;

/// Between rows time goes on in steps of this, milliseconds, so that staleness and clocks are seen.
const TICK_MS: u64 = 10_000;

/// A signal is taken for stale after so many of the trace's usual intervals without a row.
const STALE_INTERVALS: u64 = 3;

/// A section of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayedChange {
    /// Which.
    pub section: Section,
    /// The persona before. None: what lower layers say.
    pub before: Option<String>,
    /// The persona after. None: what lower layers say.
    pub after: Option<String>,
}

/// A switch, or why it was held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// `switched`, or what held it back.
    pub outcome: &'static str,
    /// What changed.
    pub changes: Vec<ReplayedChange>,
    /// A sentence for people.
    pub reason: String,
}

/// How a replay went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// Its first and last time, milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// Its last time.
    pub to_ms: u64,
    /// A signal without a row for so long counts as unknown, milliseconds.
    pub stale_after_ms: u64,
    /// Every switch and everything that was held back.
    pub decisions: Vec<Replayed>,
    /// How long each persona was worn in some section, milliseconds.
    pub worn_ms: BTreeMap<String, u64>,
    /// Signals of the trace that no rule reads.
    pub unread: BTreeSet<String>,
    /// Readings that never had a value.
    pub never_known: BTreeSet<String>,
    /// Rows whose time lies before an earlier row's; they count as that one's time.
    pub backward_count: usize,
    /// Every rule at the time asked for, or at the end.
    pub story: Option<Story>,
}

/// What to replay, and how.
#[derive(Debug, Clone)]
pub struct Question {
    /// The rules, in order.
    pub rules: RuleSet,
    /// How often one subject may be switched.
    pub budget: FlapBudget,
    /// When a signal is stale. None: three times the trace's usual interval, and 15 s at least.
    pub stale_after_ms: Option<u64>,
    /// When to tell of every rule, milliseconds since the Unix epoch.
    pub explain_at_ms: Option<u64>,
}

struct Run {
    fleet: Fleet,
    subject: SubjectIndex,
    board: Board,
    inputs: Vec<(usize, Input)>,
    never_known: BTreeSet<usize>,
    clock: Moment,
    explain_at_ms: Option<u64>,
    replay: Replay,
}

/// Runs a trace. Rows with a name that the catalogue does not know, or with a lifetime out of bounds, are an error.
pub fn replay(rows: &[Row], question: Question) -> Result<Replay, String> {
    let first_ms = rows.first().map_or(0, |row| row.time_ms);
    let stale_after_ms = question.stale_after_ms.unwrap_or_else(|| stale_after(rows));
    let inputs: Vec<(usize, Input)> = question.rules.inputs().map(|(index, input)| (index, input.clone())).collect();
    let mut fleet = Fleet::new(question.rules, question.budget, None);
    let subject = fleet.add();
    let replay = Replay {
        from_ms: first_ms,
        to_ms: first_ms,
        stale_after_ms,
        decisions: Vec::new(),
        worn_ms: BTreeMap::new(),
        unread: BTreeSet::new(),
        never_known: BTreeSet::new(),
        backward_count: 0,
        story: None,
    };
    let mut run = Run {
        board: Board::new(inputs.iter().map(|(_, input)| input), stale_after_ms),
        never_known: inputs.iter().map(|(index, _)| *index).collect(),
        fleet,
        subject,
        inputs,
        clock: Moment::of(first_ms),
        explain_at_ms: question.explain_at_ms,
        replay,
    };
    let mut names: BTreeMap<&str, SignalName> = BTreeMap::new();
    let mut at = 0;
    while at < rows.len() {
        let time_ms = rows[at].time_ms;
        run.go_to(time_ms);
        while let Some(row) = rows.get(at).filter(|row| row.time_ms == time_ms) {
            if !names.contains_key(row.signal.as_str()) {
                names.insert(&row.signal, row.signal.parse().map_err(|error| format!("{error}"))?);
            }
            run.take(&names[row.signal.as_str()], row)?;
            at += 1;
        }
        run.look();
    }
    Ok(run.finish())
}

/// Three times the median interval between the trace's times, and the agents' own bound at least.
fn stale_after(rows: &[Row]) -> u64 {
    let mut gaps: Vec<u64> =
        rows.windows(2).map(|pair| pair[1].time_ms.saturating_sub(pair[0].time_ms)).filter(|gap| *gap > 0).collect();
    gaps.sort_unstable();
    let median = gaps.get(gaps.len() / 2).copied().unwrap_or(0);
    (median * STALE_INTERVALS).max(STALE_AFTER_DEFAULT_MS)
}

impl Run {
    fn take(&mut self, signal: &SignalName, row: &Row) -> Result<(), String> {
        let now_ms = self.clock.steady_ms;
        let is_read = match row.lifetime {
            Some(lifetime) if row.value.is_finite() => {
                self.board.push(signal, now_ms, row.value, lifetime.0).map_err(|error| error.to_string())?;
                self.inputs.iter().any(|(_, input)| input.signal == *signal)
            }
            _ => self.board.record(signal, now_ms, row.value),
        };
        if !is_read {
            self.replay.unread.insert(signal.to_string());
        }
        Ok(())
    }

    /// Lets time pass until a row's; the steady clock stands still where the trace goes back.
    fn go_to(&mut self, time_ms: u64) {
        if time_ms < self.clock.wall_ms {
            self.replay.backward_count += 1;
            self.clock.wall_ms = time_ms;
            return;
        }
        while self.clock.wall_ms < time_ms {
            let left_ms = time_ms - self.clock.wall_ms;
            let due_ms = self.fleet.next_due_ms().map(|due| due.saturating_sub(self.clock.steady_ms).max(1));
            let step_ms = due_ms.unwrap_or(TICK_MS).min(TICK_MS);
            if step_ms >= left_ms {
                self.pass(left_ms);
                return;
            }
            self.pass(step_ms);
            self.look();
        }
    }

    fn pass(&mut self, step_ms: u64) {
        let personas = self.fleet.rule_set().personas();
        let worn: BTreeSet<usize> = self.fleet.worn(self.subject).into_iter().map(|(_, persona)| persona).collect();
        for persona in worn {
            *self.replay.worn_ms.entry(personas[persona].persona.to_string()).or_default() += step_ms;
        }
        self.clock.wall_ms += step_ms;
        self.clock.steady_ms += step_ms;
    }

    /// Reads what the rules read, and decides.
    fn look(&mut self) {
        for (index, input) in &self.inputs {
            let value = self.board.read(input, self.clock.steady_ms);
            if value.is_some() {
                self.never_known.remove(index);
            }
            self.fleet.observe(self.subject, *index, value.unwrap_or(f64::NAN));
        }
        for decision in self.fleet.evaluate(self.clock) {
            let told = self.told(decision);
            self.replay.decisions.push(told);
        }
        self.replay.to_ms = self.clock.wall_ms;
        if self.explain_at_ms.is_some_and(|at_ms| self.clock.wall_ms >= at_ms) {
            self.explain_at_ms = None;
            self.replay.story = Some(self.fleet.explain(self.subject, self.clock));
        }
    }

    fn told(&self, decision: Decision) -> Replayed {
        let name = |persona: Option<usize>| {
            persona.map(|persona| self.fleet.rule_set().personas()[persona].persona.to_string())
        };
        let change = |change: &persona_core::activate::SectionChange| ReplayedChange {
            section: change.section,
            before: name(change.before),
            after: name(change.after),
        };
        Replayed {
            time_ms: self.clock.wall_ms,
            outcome: match decision.outcome {
                Outcome::Switched => "switched",
                Outcome::HeldByBudget(_) => "heldByBudget",
                Outcome::HeldByPace(_) => "heldByPace",
            },
            changes: decision.changes.iter().map(change).collect(),
            reason: decision.reason,
        }
    }

    fn finish(mut self) -> Replay {
        let sources = self.fleet.rule_set().sources();
        self.replay.never_known = self.never_known.iter().map(|index| sources[*index].to_string()).collect();
        if self.replay.story.is_none() {
            self.replay.story = Some(self.fleet.explain(self.subject, self.clock));
        }
        self.replay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use persona_core::document::{Document, Format, parse_documents};
    use persona_core::units::Span;

    fn rules(rule: &str) -> RuleSet {
        let text = format!(
            "{{apiVersion: persona/v1, kind: Persona, metadata: {{name: web}}, spec: {{qos: {{dscp: ef}}, activation: [{rule}]}}}}"
        );
        let Document::Persona(persona) = parse_documents(&text, Format::Yaml, "t").unwrap().remove(0) else { panic!() };
        RuleSet::new([(persona.metadata.name.clone(), 1, &persona.spec)]).unwrap()
    }

    fn question(rule: &str) -> Question {
        Question { rules: rules(rule), budget: FlapBudget::default(), stale_after_ms: None, explain_at_ms: None }
    }

    fn row(second: u64, signal: &str, value: f64) -> Row {
        Row { time_ms: second * 1_000, signal: signal.to_owned(), value, lifetime: None }
    }

    #[test]
    fn a_load_step_switches_after_its_hold_and_back_after_the_cooldown_of_the_signal() {
        let load = |second: u64| row(second, "cpu.utilisation", if (300..900).contains(&second) { 0.95 } else { 0.2 });
        let rows: Vec<Row> = (0..1_800).step_by(60).map(load).collect();
        let replay = replay(&rows, question("{ when: 'cpu.utilisation > 0.8', for: 90s }")).unwrap();
        let times: Vec<u64> = replay.decisions.iter().map(|decision| decision.time_ms / 1_000).collect();
        assert_eq!(times, [390, 900], "{:?}", replay.decisions);
        assert_eq!(replay.worn_ms["web"], 510_000);
        assert_eq!(replay.stale_after_ms, 180_000);
    }

    #[test]
    fn pushed_values_die_and_gaps_are_stale() {
        let mut rows = vec![row(0, "external.surge", 1.0), row(600, "cpu.usage", 1.0)];
        rows[0].lifetime = Some(Span(60_000));
        let asked = question("{ when: 'external.surge > 0', onUnknown: leave, staleAfter: 30s }");
        let replay = replay(&rows, asked).unwrap();
        let times: Vec<u64> = replay.decisions.iter().map(|decision| decision.time_ms / 1_000).collect();
        assert_eq!(times, [0, 90], "{:?}", replay.decisions);
        assert!(replay.unread.contains("cpu.usage") && replay.never_known.is_empty());
    }

    #[test]
    fn a_trace_that_goes_back_in_time_is_counted_and_ends_no_hold_early() {
        let rows: Vec<Row> = (100..160).chain(50..200).map(|second| row(second, "cpu.utilisation", 0.9)).collect();
        let replay = replay(&rows, question("{ when: 'cpu.utilisation > 0.8', for: 100s }")).unwrap();
        assert_eq!(replay.backward_count, 1);
        // 59 s until it goes back to 50 s, so 41 s later.
        assert_eq!(replay.decisions[0].time_ms, 91_000);
    }

    #[test]
    fn a_day_of_the_shipped_example() {
        let text = include_str!("../packaging/examples/activation.yaml");
        let documents = parse_documents(text, Format::Yaml, "activation.yaml").unwrap();
        let personas = documents.iter().filter_map(|document| match document {
            Document::Persona(persona) => Some((persona.metadata.name.clone(), 1, &persona.spec)),
            _ => None,
        });
        let rules = RuleSet::new(personas).unwrap();
        let midnight = crate::trace::time_of("2026-03-02T00:00:00Z").unwrap() / 1_000;
        let mut rows = Vec::new();
        for second in (0..86_400).step_by(60) {
            let is_busy = (36_000..43_200).contains(&second);
            rows.push(row(midnight + second, "cpu.utilisation", if is_busy { 0.95 } else { 0.2 }));
            if second == 54_000 {
                let surge = row(midnight + second, "external.surge", 1.0);
                rows.push(Row { lifetime: Some(Span(600_000)), ..surge });
            }
        }
        let asked = Question { rules, budget: FlapBudget::default(), stale_after_ms: None, explain_at_ms: None };
        let replay = replay(&rows, asked).unwrap();
        let told: Vec<(u64, Option<&str>)> = replay
            .decisions
            .iter()
            .map(|decision| (decision.time_ms / 1_000 - midnight, decision.changes[0].after.as_deref()))
            .collect();
        let (backup, web) = (Some("nightly-backup-processor"), Some("high-traffic-web-server"));
        let left_s = told[3].0;
        assert!((43_440..=43_620).contains(&left_s), "some minutes after the load ended: {told:?}");
        // 01:00 to 05:00 in Berlin; 30 s of load; a surge of ten minutes and 30 s of not knowing.
        assert_eq!(
            told,
            [(0, backup), (14_400, None), (36_030, web), (left_s, None), (54_000, web), (54_630, None)],
            "{:#?}",
            replay.decisions
        );
    }

    #[test]
    fn unknown_signals_are_refused() {
        let error = replay(&[row(0, "cpu.utilization", 1.0)], question("{ when: 'true' }")).unwrap_err();
        assert!(error.contains("did you mean cpu.utilisation?"), "{error}");
    }
}
