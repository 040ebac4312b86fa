//! Speed of activation beside a straightforward loop over strings and hash maps: `cargo bench -p persona-core --bench activation`.
//!
//! 100,000 VMs, 10 personas of 3 predicates, 8 signals. All arms see the same values in the same run, interleaved, and must
//! come to the same matches. `PERSONA_BENCH_VMS` changes the number of VMs.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use persona_core::activate::{Fleet, Moment, RuleSet, SubjectIndex};
use persona_core::document::{Document, FlapBudget, Format, parse_documents};
use persona_core::units::Span;

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
const PERSONA_COUNT: usize = 10;
const PREDICATE_COUNT: usize = 3;
const ROUND_COUNT: usize = 5;

/// A predicate as a straightforward program would have it.
struct Predicate {
    signal: String,
    operator: String,
    threshold: f64,
}

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn predicates() -> Vec<Vec<Predicate>> {
    let one = |persona: usize, predicate: usize| Predicate {
        signal: SIGNALS[(persona * 3 + predicate * 5) % SIGNALS.len()].to_owned(),
        operator: if (persona + predicate).is_multiple_of(2) { ">" } else { "<" }.to_owned(),
        threshold: 0.25 + 0.05 * ((persona * 7 + predicate * 3) % 11) as f64,
    };
    (0..PERSONA_COUNT).map(|persona| (0..PREDICATE_COUNT).map(|predicate| one(persona, predicate)).collect()).collect()
}

fn rule_set(predicates: &[Vec<Predicate>]) -> RuleSet {
    let read = |(index, persona): (usize, &Vec<Predicate>)| {
        let when = persona.iter().map(|it| format!("{} {} {}", it.signal, it.operator, it.threshold));
        let when = when.collect::<Vec<_>>().join(" && ");
        let text = format!(
            "{{apiVersion: persona/v1, kind: Persona, metadata: {{name: p{index}}}, spec: {{resources: {{pids: 5}}, activation: [{{when: '{when}'}}]}}}}"
        );
        match parse_documents(&text, Format::Yaml, "bench").expect("the document is right").remove(0) {
            Document::Persona(persona) => persona,
            other => panic!("{other:?}"),
        }
    };
    let documents: Vec<_> = predicates.iter().enumerate().map(read).collect();
    let named = documents.iter().map(|document| (document.metadata.name.clone(), 1, &document.spec));
    RuleSet::new(named).expect("the rules fit")
}

fn plain_match(predicates: &[Vec<Predicate>], values: &HashMap<String, f64>) -> Option<usize> {
    let holds = |it: &Predicate| match (values.get(&it.signal), it.operator.as_str()) {
        (Some(value), ">") => *value > it.threshold,
        (Some(value), "<") => *value < it.threshold,
        _ => false,
    };
    predicates.iter().position(|persona| persona.iter().all(holds))
}

/// Runs and answers nanoseconds per VM and how often each persona matched.
fn timed(count: usize, mut match_of: impl FnMut(usize) -> Option<usize>) -> (f64, [usize; PERSONA_COUNT + 1]) {
    let mut histogram = [0; PERSONA_COUNT + 1];
    let start = Instant::now();
    for vm in 0..count {
        histogram[black_box(match_of(vm)).unwrap_or(PERSONA_COUNT)] += 1;
    }
    (start.elapsed().as_nanos() as f64 / count as f64, histogram)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let count: usize = std::env::var("PERSONA_BENCH_VMS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let predicates = predicates();
    let set = rule_set(&predicates);
    let order: Vec<usize> = set
        .sources()
        .iter()
        .map(|source| SIGNALS.iter().position(|name| *name == source.to_string()).expect("only these are read"))
        .collect();
    let mut noise = Noise(42);
    let mut values: Vec<[f64; SIGNALS.len()]> = (0..count).map(|_| SIGNALS.map(|_| noise.next())).collect();
    let maps: Vec<HashMap<String, f64>> =
        values.iter().map(|row| SIGNALS.iter().map(|name| (*name).to_owned()).zip(*row).collect()).collect();
    let typed: Vec<Vec<f64>> = values.iter().map(|row| order.iter().map(|at| row[*at]).collect()).collect();

    let (mut plain, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUND_COUNT {
        let (ns, expected) = timed(count, |vm| plain_match(&predicates, &maps[vm]));
        plain.push(ns);
        let (ns, histogram) = timed(count, |vm| set.first_match(&typed[vm]));
        own.push(ns);
        assert_eq!(histogram, expected, "both come to the same matches");
    }
    let (plain, own) = (median(plain), median(own));
    println!("first match, {count} VMs, {PERSONA_COUNT} personas, {PREDICATE_COUNT} predicates");
    println!("  strings and hash maps  {plain:8.1} ns per VM");
    println!("  rule set               {own:8.1} ns per VM, {:.1} times as fast", plain / own);

    let mut fleet = Fleet::new(set, FlapBudget { count: 100, per: Span(60_000) }, None);
    let subjects: Vec<SubjectIndex> = (0..count).map(|_| fleet.add()).collect();
    let (mut whole, mut few, mut idle, mut switches) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..2 * ROUND_COUNT as u64 {
        // Every value wanders a little, as a second later it would have.
        values.iter_mut().flatten().for_each(|value| *value = (*value + 0.02 * (noise.next() - 0.5)).clamp(0.0, 1.0));
        let start = Instant::now();
        for (subject, row) in subjects.iter().zip(&values) {
            order.iter().enumerate().for_each(|(source, at)| fleet.observe(*subject, source, row[*at]));
        }
        let decisions = black_box(fleet.evaluate(Moment::of(round * 3_000))).len();
        // The first round puts a persona on everybody, which happens once.
        if round > 0 {
            whole.push(start.elapsed().as_secs_f64() * 1e3);
            switches += decisions;
        }
        let start = Instant::now();
        for (subject, row) in subjects.iter().zip(&mut values).step_by(100) {
            row[2] = (row[2] + 0.02).min(1.0);
            let source = order.iter().position(|at| *at == 2).expect("the signal is read");
            fleet.observe(*subject, source, row[2]);
        }
        black_box(fleet.evaluate(Moment::of(round * 3_000 + 1_000)));
        few.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        black_box(fleet.evaluate(Moment::of(round * 3_000 + 2_000)));
        idle.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("fleet of {count} on one core, rules with state, decisions with reasons");
    println!(
        "  every value changed    {:8.3} ms ({} switches a round)",
        median(whole),
        switches / (2 * ROUND_COUNT - 1)
    );
    println!("  1 VM in 100 changed    {:8.3} ms", median(few));
    println!("  nothing changed        {:8.3} ms", median(idle));
}
