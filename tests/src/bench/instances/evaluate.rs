//! Choosing personas: 100,000 machines, 10 personas of 3 comparisons, 8 signals, beside a loop over strings and hash maps.
//!
//! Both see the same values and must come to the same choice.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use persona_core::activate::{Fleet, Moment, RuleSet, SubjectIndex};
use persona_core::document::FlapBudget;
use persona_core::units::Span;

use super::rules::rule_set;
use crate::bench::measures::Run;
use crate::bench::row::{Better, Goal, Row};
use crate::bench::samples::Samples;

const MACHINE_COUNT: usize = 100_000;
const PERSONA_COUNT: usize = 10;
const COMPARISON_COUNT: usize = 3;

/// The signals; a persona looks at three of them.
const SIGNALS: [&str; 8] = [
    "cpu.pressure",
    "cpu.throttling",
    "cpu.utilisation",
    "io.pressure",
    "memory.pressure",
    "memory.usage",
    "host.cpu.utilisation",
    "host.memory.usage",
];

/// The signal that changes where few do.
const WANDERER: usize = 2;

/// Of how many machines it changes then: one in so many.
const FEW: usize = 100;

/// How far a signal wanders in a second, either way.
const STEP: f64 = 0.01;

const PLAIN: &str = "strings and hash maps";

/// How many machines chose each persona, and none.
type Histogram = [usize; PERSONA_COUNT + 1];

/// A comparison as a straightforward program would have it.
struct Comparison {
    signal: String,
    operator: String,
    threshold: f64,
}

/// A linear congruential generator (Knuth, MMIX): the same values in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// First match per machine beside the plain loop, and a fleet with state, holds and reasons.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("evaluate: values of 100,000 machines");
    let comparisons = comparisons();
    let mut values = Values::new(rules_of(&comparisons)?)?;
    let [mut ours, mut plain]: [Samples; 2] = Default::default();
    let mut fleet = FleetCosts::new(rules_of(&comparisons)?, &values);
    for round in 0..run.rounds {
        run.say(&format!("evaluate: round {} of {}", round + 1, run.rounds));
        let (ns, expected) = timed(|machine| plain_choice(&comparisons, &values.maps[machine]));
        plain.push(ns);
        let (ns, found) = timed(|machine| values.set.first_match(&values.typed[machine]));
        ours.push(ns);
        ensure!(found == expected, "ours chose {found:?}, the plain loop {expected:?}");
        fleet.round(&mut values);
        run.step();
    }
    let cost = |name: &str, samples: Samples| Row::new(format!("evaluate/{name}"), "ms", Better::Less, samples);
    Ok(vec![
        Row::new("evaluate/first-match", "ns", Better::Less, ours).beside(PLAIN, plain).reach(Goal::TimesPeer(4.0)),
        cost("fleet/every-value-changed", fleet.all).reach(Goal::AtMost(20.0)),
        cost("fleet/1-in-100-changed", fleet.few),
        cost("fleet/nothing-changed", fleet.none),
    ])
}

/// What a machine's signals are, in the three forms that are compared.
struct Values {
    set: RuleSet,
    /// For each source of the set, which signal it is.
    order: Vec<usize>,
    rows: Vec<[f64; SIGNALS.len()]>,
    maps: Vec<HashMap<String, f64>>,
    typed: Vec<Vec<f64>>,
    noise: Noise,
}

impl Values {
    fn new(set: RuleSet) -> Result<Self> {
        let position = |name: String| SIGNALS.iter().position(|known| *known == name);
        let order = set.sources().iter().map(|source| position(source.to_string()));
        let order: Vec<usize> = order.collect::<Option<_>>().context("only these signals are read")?;
        let mut noise = Noise(42);
        let rows: Vec<[f64; SIGNALS.len()]> = (0..MACHINE_COUNT).map(|_| SIGNALS.map(|_| noise.next())).collect();
        let named = |row: &[f64; SIGNALS.len()]| SIGNALS.iter().map(|name| (*name).to_owned()).zip(*row).collect();
        let maps = rows.iter().map(named).collect();
        let typed = rows.iter().map(|row| order.iter().map(|at| row[*at]).collect()).collect();
        Ok(Self { set, order, rows, maps, typed, noise })
    }

    /// Every value wanders a little, as a second later it would have.
    fn wander(&mut self) {
        for value in self.rows.iter_mut().flatten() {
            *value = (*value + 2.0 * STEP * (self.noise.next() - 0.5)).clamp(0.0, 1.0);
        }
    }
}

/// A fleet, and what its rounds cost, milliseconds.
struct FleetCosts {
    fleet: Fleet,
    subjects: Vec<SubjectIndex>,
    now_ms: u64,
    all: Samples,
    few: Samples,
    none: Samples,
}

impl FleetCosts {
    /// Everybody has been looked at once and wears something.
    fn new(set: RuleSet, values: &Values) -> Self {
        let mut fleet = Fleet::new(set, FlapBudget { count: 100, per: Span(60_000) }, None);
        let subjects = (0..MACHINE_COUNT).map(|_| fleet.add()).collect();
        let [all, few, none]: [Samples; 3] = Default::default();
        let mut costs = Self { fleet, subjects, now_ms: 0, all, few, none };
        costs.observe_all(values);
        black_box(costs.fleet.evaluate(Moment::of(0)));
        costs
    }

    fn round(&mut self, values: &mut Values) {
        values.wander();
        let start = Instant::now();
        self.observe_all(values);
        self.evaluate();
        self.all.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        self.observe_few(values);
        self.evaluate();
        self.few.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        self.evaluate();
        self.none.push(start.elapsed().as_secs_f64() * 1e3);
    }

    fn observe_all(&mut self, values: &Values) {
        for (subject, row) in self.subjects.iter().zip(&values.rows) {
            values.order.iter().enumerate().for_each(|(source, at)| self.fleet.observe(*subject, source, row[*at]));
        }
    }

    fn observe_few(&mut self, values: &mut Values) {
        let Some(source) = values.order.iter().position(|at| *at == WANDERER) else { return };
        for (subject, row) in self.subjects.iter().zip(&mut values.rows).step_by(FEW) {
            row[WANDERER] = (row[WANDERER] + STEP).min(1.0);
            self.fleet.observe(*subject, source, row[WANDERER]);
        }
    }

    fn evaluate(&mut self) {
        self.now_ms += 1_000;
        black_box(self.fleet.evaluate(Moment::of(self.now_ms)));
    }
}

fn comparisons() -> Vec<Vec<Comparison>> {
    let one = |persona: usize, number: usize| Comparison {
        signal: SIGNALS[(persona * 3 + number * 5) % SIGNALS.len()].to_owned(),
        operator: if (persona + number).is_multiple_of(2) { ">" } else { "<" }.to_owned(),
        threshold: 0.25 + 0.05 * ((persona * 7 + number * 3) % 11) as f64,
    };
    (0..PERSONA_COUNT).map(|persona| (0..COMPARISON_COUNT).map(|number| one(persona, number)).collect()).collect()
}

fn rules_of(comparisons: &[Vec<Comparison>]) -> Result<RuleSet> {
    let when = |persona: &Vec<Comparison>| {
        let parts = persona.iter().map(|it| format!("{} {} {}", it.signal, it.operator, it.threshold));
        parts.collect::<Vec<_>>().join(" && ")
    };
    let personas = comparisons.iter().enumerate().map(|(index, persona)| (format!("p{index}"), when(persona)));
    rule_set(&personas.collect::<Vec<_>>())
}

fn plain_choice(comparisons: &[Vec<Comparison>], values: &HashMap<String, f64>) -> Option<usize> {
    let holds = |it: &Comparison| match (values.get(&it.signal), it.operator.as_str()) {
        (Some(value), ">") => *value > it.threshold,
        (Some(value), "<") => *value < it.threshold,
        _ => false,
    };
    comparisons.iter().position(|persona| persona.iter().all(holds))
}

/// Nanoseconds per machine, and what they chose.
fn timed(mut choice_of: impl FnMut(usize) -> Option<usize>) -> (f64, Histogram) {
    let mut histogram = [0; PERSONA_COUNT + 1];
    let start = Instant::now();
    for machine in 0..MACHINE_COUNT {
        histogram[black_box(choice_of(machine)).unwrap_or(PERSONA_COUNT)] += 1;
    }
    (start.elapsed().as_nanos() as f64 / MACHINE_COUNT as f64, histogram)
}
