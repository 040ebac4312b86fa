//! Fleets against what people expect: first match per section, hold and cooldown, missing data, clocks, budgets.

use proptest::prelude::*;

use super::*;
use crate::activate::Criterion;
use crate::document::{Document, FlapBudget, Format, PersonaDocument, parse_documents};
use crate::units::Span;

const WEB: &str = "{ when: 'cpu.utilisation > 0.8', for: 30s, leave: 'cpu.utilisation < 0.6', cooldown: 5m }";

fn personas(list: &[(&str, &str, &str)]) -> Vec<PersonaDocument> {
    let read = |(name, sections, rules): &(&str, &str, &str)| {
        let text = format!(
            "{{apiVersion: persona/v1, kind: Persona, metadata: {{name: {name}}}, spec: {{{sections}, activation: [{rules}]}}}}"
        );
        match parse_documents(&text, Format::Yaml, "test").unwrap_or_else(|errors| panic!("{errors:?}")).remove(0) {
            Document::Persona(persona) => persona,
            other => panic!("{other:?}"),
        }
    };
    list.iter().map(read).collect()
}

fn fleet_of(list: &[(&str, &str, &str)], budget: FlapBudget, pace: Option<u32>) -> Fleet {
    let personas = personas(list);
    let named = personas.iter().map(|persona| (persona.metadata.name.clone(), 1, &persona.spec));
    Fleet::new(RuleSet::new(named).unwrap(), budget, pace)
}

fn generous() -> FlapBudget {
    FlapBudget { count: 1_000, per: Span(1_000) }
}

/// One subject, one signal by its text, and what it wears.
struct World {
    fleet: Fleet,
    subject: SubjectIndex,
    told: Vec<String>,
    now: Moment,
}

impl World {
    fn new(list: &[(&str, &str, &str)], budget: FlapBudget) -> Self {
        let mut fleet = fleet_of(list, budget, None);
        let subject = fleet.add();
        Self { fleet, subject, told: Vec::new(), now: Moment::of(0) }
    }

    fn see(&mut self, signal: &str, value: f64) {
        let index = self.fleet.rule_set().sources().iter().position(|source| source.to_string() == signal);
        self.fleet.observe(self.subject, index.unwrap_or_else(|| panic!("nothing reads {signal}")), value);
    }

    fn go_to(&mut self, seconds: u64) {
        self.at(Moment::of(seconds * 1_000));
    }

    fn at(&mut self, now: Moment) {
        self.now = now;
        self.told.extend(self.fleet.evaluate(now).into_iter().map(|decision| decision.reason));
    }

    fn wears(&self) -> Vec<String> {
        let name = |persona: usize| self.fleet.rule_set().personas()[persona].persona.to_string();
        self.fleet
            .worn(self.subject)
            .into_iter()
            .map(|(section, persona)| format!("{section}:{}", name(persona)))
            .collect()
    }
}

#[test]
fn the_first_match_wins_per_section() {
    let list = [
        ("burst", "resources: {pids: 5}", "{ when: 'cpu.utilisation > 0.8' }"),
        (
            "big",
            "resources: {pids: 9}, qos: {dscp: ef}",
            "{ when: 'memory.usage > 0.5' }, { when: 'external.surge > 0' }",
        ),
        ("fallback", "qos: {dscp: 0}", "{ when: 'true' }"),
    ];
    let mut world = World::new(&list, generous());
    let cases = [
        (0.1, 0.1, 0.0, vec!["qos:fallback"]),
        (0.1, 0.9, 0.0, vec!["qos:big", "resources:big"]),
        (0.9, 0.9, 0.0, vec!["qos:big", "resources:burst"]),
        (0.9, 0.1, 0.0, vec!["qos:fallback", "resources:burst"]),
        (0.1, 0.1, 1.0, vec!["qos:big", "resources:big"]),
        (0.1, 0.1, 0.0, vec!["qos:fallback"]),
    ];
    for (second, (cpu, memory, surge, expected)) in cases.into_iter().enumerate() {
        world.see("cpu.utilisation", cpu);
        world.see("memory.usage", memory);
        world.see("external.surge", surge);
        world.go_to(10 * second as u64);
        assert_eq!(world.wears(), expected, "{cpu} {memory} {surge}");
    }
    assert_eq!(
        world.told[1],
        "big: holds: memory.usage > 0.5 (0.9); it goes before fallback; big: holds: memory.usage > 0.5 (0.9)"
    );
    assert_eq!(world.told[2], "burst: holds: cpu.utilisation > 0.8 (0.9); it goes before big");
    assert_eq!(
        world.told[5],
        "big leaves: no longer external.surge > 0 (0); fallback is next; big leaves: no longer external.surge > 0 (0)"
    );
}

/// Runs a signal, a value a second, and counts the switches.
fn switches(rule: &str, seconds: u64, value: impl Fn(u64) -> f64) -> (usize, World) {
    let mut world = World::new(&[("web", "resources: {pids: 5}", rule)], generous());
    for second in 0..seconds {
        world.see("cpu.utilisation", value(second));
        world.go_to(second);
    }
    (world.told.len(), world)
}

#[test]
fn square_waves_switch_once_an_edge_and_short_ones_not_at_all() {
    let wave = |period: u64| move |second: u64| if second / (period / 2) % 2 == 1 { 0.95 } else { 0.1 };
    assert_eq!(switches(WEB, 4_801, wave(1_200)).0, 8);
    assert_eq!(switches(WEB, 4_800, wave(50)).0, 0, "never 30 s at a time");
    // On at 230 s, off at 400 s, cool at 700 s and so on, off at 800 s, cool and on at 1,100 s.
    assert_eq!(switches(WEB, 1_200, wave(400)).0, 5);
}

#[test]
fn noise_at_the_threshold_does_not_flap() {
    let noise = |second: u64| 0.8 + 0.05 * ((second * 7_919) % 13) as f64 / 13.0 - 0.025;
    assert!(switches("{ when: 'cpu.utilisation > 0.8' }", 3_600, noise).0 > 1_000, "without hysteresis it flaps");
    let (count, _) = switches(WEB, 3_600, noise);
    assert!(count <= 1, "{count}");
    let (count, _) = switches("{ when: 'cpu.utilisation > 0.8', dwell: 10m }", 3_600, noise);
    assert!(count <= 12, "{count}");
}

#[test]
fn missing_data_holds_and_leaves_when_the_rule_says_so() {
    let hold = "{ when: 'cpu.utilisation > 0.8', staleAfter: 1m }";
    let gone = |second: u64| if second < 10 { 0.9 } else { f64::NAN };
    let (count, world) = switches(hold, 600, gone);
    assert_eq!((count, world.wears().len()), (1, 1));
    let story = world.fleet.explain(world.subject, world.now);
    assert!(story.personas[0].rules[0].verdict.contains("for want of a signal, so it stays"), "{story:?}");
    let leave = "{ when: 'cpu.utilisation > 0.8', staleAfter: 1m, onUnknown: leave }";
    let (count, world) = switches(leave, 600, gone);
    assert_eq!((count, world.wears().len()), (2, 0));
    assert_eq!(world.told[1], "web leaves: unknown for 1m, and onUnknown is leave: cpu.utilisation > 0.8 (unknown)");
    let (count, _) = switches(WEB, 600, |_| f64::NAN);
    assert_eq!(count, 0);
}

#[test]
fn the_night_of_the_clock_change_is_followed() {
    let rule = "{ when: \"between('01:00', '04:00', 'Europe/Berlin')\" }";
    // From 00:00 local of both nights: three hours in autumn are four, in spring two.
    for (start, hours) in [("2026-03-28T23:00:00Z", 2), ("2026-10-24T22:00:00Z", 4)] {
        let mut world = World::new(&[("night", "resources: {pids: 5}", rule)], generous());
        let start_ms = start.parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64;
        let mut worn_minutes = 0;
        for minute in 0..8 * 60 {
            world.at(Moment::of(start_ms + minute * 60_000));
            worn_minutes += world.wears().len();
        }
        assert_eq!((worn_minutes, world.told.len()), (hours * 60, 2), "{start}");
    }
}

#[test]
fn a_leap_second_and_a_clock_that_goes_back_change_no_hold() {
    let mut world = World::new(&[("web", "resources: {pids: 5}", WEB)], generous());
    let leap = "2016-12-31T23:59:40Z".parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64;
    world.see("cpu.utilisation", 0.9);
    for second in 0..=30_u64 {
        // The wall's clock repeats a second, and later goes back by an hour; the steady clock does neither.
        let wall_ms = leap + second * 1_000 - u64::from(second > 20) * 1_000 - u64::from(second > 25) * 3_600_000;
        world.at(Moment { wall_ms, steady_ms: 5_000 + second * 1_000 });
        assert_eq!(world.wears().len(), usize::from(second == 30), "{second}");
    }
}

#[test]
fn the_flap_budget_keeps_what_is_worn_and_tells_it_once() {
    let mut world = World::new(
        &[("web", "resources: {pids: 5}", "{ when: 'cpu.utilisation > 0.8' }")],
        FlapBudget { count: 2, per: Span(60_000) },
    );
    for second in 0..60 {
        world.see("cpu.utilisation", if second % 2 == 0 { 0.9 } else { 0.1 });
        world.go_to(second);
    }
    assert_eq!(world.told.len(), 2 + 29, "each new wish is told once: {:?}", world.told);
    assert!(
        world.told[2].starts_with("held back for 58s, because the flap budget is used up: web: holds"),
        "{:?}",
        world.told[2]
    );
    assert_eq!(world.wears().len(), 0);
    world.see("cpu.utilisation", 0.9);
    world.go_to(60);
    assert_eq!(world.wears().len(), 1, "the first switch is a minute old");
}

#[test]
fn the_fleet_changes_no_faster_than_its_pace_and_all_get_their_turn() {
    let list = [("web", "resources: {pids: 5}", "{ when: 'cpu.utilisation > 0.8' }")];
    let mut fleet = fleet_of(&list, generous(), Some(10));
    let subjects: Vec<SubjectIndex> = (0..25).map(|_| fleet.add()).collect();
    subjects.iter().for_each(|subject| fleet.observe(*subject, 0, 0.9));
    let count = |fleet: &Fleet| subjects.iter().filter(|subject| !fleet.worn(**subject).is_empty()).count();
    let mut counts = Vec::new();
    for second in [0, 30, 60, 90, 120] {
        fleet.evaluate(Moment::of(second * 1_000));
        counts.push(count(&fleet));
    }
    assert_eq!(counts, [10, 10, 20, 20, 25]);
}

#[test]
fn a_story_tells_every_rule_every_value_and_by_how_much_it_lost() {
    let list = [
        ("web", "resources: {pids: 5}", WEB),
        ("night", "resources: {pids: 6}", "{ when: 'hour() >= 22 && memory.usage < 0.5' }"),
        ("ai", "resources: {pids: 7}", "{ when: 'external.training > 0' }"),
    ];
    let mut world = World::new(&list, generous());
    world.see("cpu.utilisation", 0.61);
    world.see("memory.usage", 0.75);
    world.go_to(9 * 3_600);
    let story = world.fleet.explain(world.subject, world.now);
    let verdicts: Vec<&str> = story.personas.iter().map(|persona| persona.rules[0].verdict.as_str()).collect();
    assert_eq!(
        verdicts,
        [
            "lost: cpu.utilisation > 0.8 is 0.61, off by 0.19",
            "lost: hour() >= 22 is 9, off by 13; memory.usage < 0.5 is 0.75, off by 0.25",
            "cannot be told: nothing is known for external.training > 0",
        ]
    );
    assert_eq!(story.personas[0].rules[0].seen.len(), 2, "those of leave too");
    world.see("cpu.utilisation", 0.9);
    world.go_to(9 * 3_600 + 1);
    world.go_to(9 * 3_600 + 13);
    let story = world.fleet.explain(world.subject, world.now);
    assert_eq!(story.personas[0].rules[0].verdict, "holds for 12s of 30s");
}

const RULES: [&str; 6] = [
    "cpu.utilisation > 0.5 && memory.usage > 0.5",
    "cpu.utilisation > 0.7 || external.x >= 1",
    "cpu.utilisation + memory.usage > 1",
    "!(memory.usage <= 0.3) && has(external.x)",
    "cpu.utilisation > (minute() < 30 ? 0.2 : 0.9)",
    "minute() in [5, 6, 7] && cpu.utilisation != 0.5",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is kept up to date step by step is what evaluating each criterion anew would say.
    #[test]
    fn incremental_evaluation_agrees_with_evaluating_everything(
        changes in proptest::collection::vec((0_usize..3, 0_usize..3, proptest::option::of(0_u32..=10), 0_u64..40), 1..40),
    ) {
        let names: Vec<String> = (0..RULES.len()).map(|index| format!("p{index}")).collect();
        let rules: Vec<String> = RULES.iter().map(|when| format!("{{ when: '{when}' }}")).collect();
        let list: Vec<(&str, &str, &str)> = names.iter().zip(&rules)
            .map(|(name, rule)| (name.as_str(), "resources: {pids: 5}", rule.as_str())).collect();
        let mut fleet = fleet_of(&list, generous(), None);
        let subjects = [fleet.add(), fleet.add(), fleet.add()];
        let signals = ["cpu.utilisation", "memory.usage", "external.x"];
        let criteria: Vec<Criterion> = RULES.iter().map(|text| Criterion::parse(text).unwrap()).collect();
        let mut known = [[f64::NAN; 3]; 3];
        let mut now_ms = 0;
        for (subject, signal, value, minutes) in changes {
            let value = value.map_or(f64::NAN, |value| f64::from(value) / 10.0);
            now_ms += minutes * 60_000;
            known[subject][signal] = value;
            let source = fleet.rule_set().sources().iter().position(|source| source.to_string() == signals[signal]);
            fleet.observe(subjects[subject], source.unwrap(), value);
            fleet.evaluate(Moment::of(now_ms));
            for (subject, values) in subjects.iter().zip(&known) {
                let story = fleet.explain(*subject, Moment::of(now_ms));
                for (rule, criterion) in criteria.iter().enumerate() {
                    let value = |name: &str| match signals.iter().position(|signal| *signal == name) {
                        Some(signal) => values[signal],
                        None => (now_ms / 60_000 % 60) as f64,
                    };
                    let all: Vec<f64> = criterion.sources().iter().map(|source| value(&source.to_string())).collect();
                    prop_assert_eq!(story.personas[rule].rules[0].holds, criterion.evaluate(&all), "{}", criterion);
                }
                let first = story.personas.iter().position(|persona| persona.rules[0].is_in);
                prop_assert_eq!(fleet.worn(*subject).first().map(|(_, persona)| *persona), first);
            }
        }
    }

    #[test]
    fn no_budget_is_ever_exceeded(levels in proptest::collection::vec(proptest::bool::ANY, 1..200), count in 1_u32..5) {
        let budget = FlapBudget { count, per: Span(20_000) };
        let mut world = World::new(&[("web", "resources: {pids: 5}", "{ when: 'cpu.utilisation > 0.8' }")], budget);
        let mut switched: Vec<usize> = Vec::new();
        for (second, is_high) in levels.iter().enumerate() {
            world.see("cpu.utilisation", if *is_high { 0.9 } else { 0.1 });
            let decisions = world.fleet.evaluate(Moment::of(second as u64 * 1_000));
            switched.extend(decisions.iter().filter(|decision| decision.outcome == Outcome::Switched).map(|_| second));
        }
        prop_assert!(switched.windows(count as usize + 1).all(|some| some[count as usize] - some[0] >= 20));
    }
}

#[test]
fn more_comparisons_than_fit_are_refused_with_the_persona() {
    let rules: Vec<String> = (0..130).map(|index| format!("{{ when: 'external.x > {index}.5' }}")).collect();
    let personas = personas(&[
        ("a", "resources: {pids: 5}", &rules[..100].join(", ")),
        ("b", "qos: {dscp: 0}", &rules[100..].join(", ")),
    ]);
    let named = personas.iter().map(|persona| (persona.metadata.name.clone(), 1, &persona.spec));
    let error = RuleSet::new(named).unwrap_err().to_string();
    assert!(error.starts_with("b brings the list to 130 different comparisons: at most 128"), "{error}");
}

#[test]
fn first_match_without_state_is_by_values_alone() {
    let fleet = fleet_of(
        &[
            ("a", "resources: {pids: 5}", "{ when: 'cpu.utilisation > 0.8', for: 1h }"),
            ("b", "resources: {pids: 5}", "{ when: 'cpu.utilisation + memory.usage > 0.5' }"),
        ],
        generous(),
        None,
    );
    let cases = [([0.9, 0.0], Some(0)), ([0.3, 0.3], Some(1)), ([0.3, 0.1], None), ([f64::NAN, 0.9], None)];
    for (values, expected) in cases {
        assert_eq!(fleet.rule_set().first_match(&values), expected, "{values:?}");
    }
}

#[test]
fn who_goes_on_elsewhere_keeps_what_it_wears_and_the_rules_that_are_in() {
    let list = [("web", "resources: {pids: 5}", "{ when: 'external.surge > 0' }, { when: 'cpu.utilisation > 0.8' }")];
    let mut before = World::new(&list, FlapBudget { count: 2, per: Span(600_000) });
    before.see("cpu.utilisation", 0.9);
    before.go_to(10);
    let kept = before.fleet.keep(before.subject);
    assert_eq!((&kept.rules, &kept.switches), (&vec![(0, 1)], &vec![10_000]));
    let mut after = World::new(&list, FlapBudget { count: 2, per: Span(600_000) });
    after.fleet.resume(after.subject, &kept, 20_000);
    after.go_to(20);
    assert_eq!((after.wears(), after.told.len()), (vec!["resources:web".to_owned()], 0), "nothing is known yet");
    after.see("cpu.utilisation", 0.5);
    after.go_to(21);
    assert_eq!(after.wears(), Vec::<String>::new(), "the rule that never was in does not hold it");
    after.see("cpu.utilisation", 0.9);
    after.go_to(22);
    assert!(after.told.last().unwrap().contains("flap budget"), "two switches were made: {:?}", after.told);
}

#[test]
fn subjects_come_and_go_and_a_place_has_no_memory_of_who_had_it() {
    let list = [("web", "resources: {pids: 5}", "{ when: 'cpu.utilisation > 0.8 && hour() + 0 >= 0' }")];
    let mut world = World::new(&list, generous());
    world.see("cpu.utilisation", 0.9);
    world.go_to(1);
    assert_eq!(world.fleet.take_moved(), [world.subject]);
    assert_eq!(world.fleet.take_moved(), []);
    let other = world.fleet.add();
    world.fleet.remove(world.subject);
    world.go_to(3_700);
    assert_eq!(world.told.len(), 1, "who is gone is not decided about when the clock turns");
    let next = world.fleet.add();
    assert_eq!(next, world.subject);
    assert_eq!((world.wears(), other == next), (vec![], false));
    world.go_to(3_701);
    assert_eq!(world.wears(), Vec::<String>::new());
    world.see("cpu.utilisation", 0.9);
    world.go_to(3_702);
    assert_eq!(world.wears(), ["resources:web"], "clocks that have turned are known to who comes later");
}

#[test]
fn several_fleets_share_one_pace() {
    let list = [("web", "resources: {pids: 5}", "{ when: 'true' }")];
    let mut fleets = [fleet_of(&list, generous(), None), fleet_of(&list, generous(), None)];
    let mut pace = Pace::new(Some(1));
    fleets.iter_mut().for_each(|fleet| _ = fleet.add());
    let mut outcomes = |seconds: u64| -> Vec<Outcome> {
        let now = Moment::of(seconds * 1_000);
        fleets.iter_mut().flat_map(|fleet| fleet.evaluate_within(now, &mut pace)).map(|it| it.outcome).collect()
    };
    assert_eq!(outcomes(1), [Outcome::Switched, Outcome::HeldByPace(61_000)]);
    assert_eq!((outcomes(60), outcomes(61)), (vec![], vec![Outcome::Switched]));
}
