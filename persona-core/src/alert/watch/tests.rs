//! Alerts over time: thresholds, noise, missing signals, other rules.

use super::*;
use crate::activate::CLEAR_HOLD_MIN;
use crate::document::MonitoringRule;

const USAGE: &str = "memory.usage";

fn rule(when: &str, seconds: u64) -> MonitoringRule {
    let hold = (seconds > 0).then_some(Span(seconds * 1_000));
    MonitoringRule { when: when.to_owned(), hold, clear: None, clear_hold: None, raise: "memory-high".to_owned() }
}

fn rules(rules: &[MonitoringRule]) -> Arc<AlertRules> {
    Arc::new(AlertRules::new(rules).unwrap())
}

/// One subject, with a look a second.
struct Scene {
    watch: Watch,
    now_ms: u64,
}

impl Scene {
    fn of(rule: MonitoringRule) -> Self {
        Self { watch: Watch::new(rules(&[rule]), [], 0), now_ms: 0 }
    }

    /// Shows a value for so many seconds; gives what changed, with the second of it.
    fn show(&mut self, value: Option<f64>, seconds: u64) -> Vec<(u64, bool)> {
        let mut changes = Vec::new();
        for _ in 0..seconds {
            self.now_ms += 1_000;
            let read = |input: &Input| value.filter(|_| input.signal.as_str() == USAGE);
            let changed = self.watch.step(Moment::of(self.now_ms), &read);
            changes.extend(changed.into_iter().map(|change| (self.now_ms / 1_000, change.is_raised)));
        }
        changes
    }
}

#[test]
fn it_is_raised_after_its_hold_and_cleared_after_as_long_a_quiet() {
    let mut scene = Scene::of(rule("memory.usage > 0.9", 60));
    assert_eq!(scene.show(Some(0.95), 60), []);
    assert_eq!(scene.show(Some(0.95), 60), [(61, true)]);
    assert_eq!(scene.show(Some(0.5), 60), []);
    assert_eq!(scene.show(Some(0.5), 60), [(181, false)]);
}

#[test]
fn without_a_hold_it_is_raised_at_once_and_noise_raises_it_once() {
    let mut scene = Scene::of(rule("memory.usage > 0.9", 0));
    assert_eq!(scene.show(Some(0.91), 1), [(1, true)]);
    for _ in 0..1_000 {
        assert_eq!(scene.show(Some(0.89), 1), []);
        assert_eq!(scene.show(Some(0.91), 1), []);
    }
    assert_eq!(scene.show(Some(0.89), 60), [(2_032, false)]);
}

#[test]
fn a_threshold_of_its_own_clears_it() {
    let clear = Some("memory.usage < 70%".to_owned());
    let mut scene = Scene::of(MonitoringRule { clear, clear_hold: Some(Span(5_000)), ..rule("memory.usage > 0.9", 0) });
    assert_eq!(scene.show(Some(0.95), 1), [(1, true)]);
    assert_eq!(scene.show(Some(0.8), 500), [], "between the two");
    assert_eq!(scene.show(Some(0.69), 6), [(507, false)]);
    assert_eq!(scene.show(Some(0.8), 500), []);
}

#[test]
fn what_is_unknown_neither_raises_nor_clears() {
    let mut scene = Scene::of(rule("memory.usage > 0.9", 10));
    assert_eq!(scene.show(None, 10_000), []);
    assert_eq!(scene.show(Some(0.95), 6), []);
    assert_eq!(scene.show(None, 100), []);
    assert_eq!(scene.show(Some(0.95), 10), [(10_111, true)], "time without a signal does not count");
    assert_eq!(scene.show(None, 10_000), [], "and it stays raised, however long");
    assert!(scene.watch.story(Moment::of(scene.now_ms), &|_| None)[0].verdict.contains("cannot be told, so it stays"));
}

#[test]
fn the_story_and_the_reasons_have_the_values_that_decided() {
    let mut watch = Watch::new(rules(&[rule("memory.usage > 0.9", 0)]), [], 0);
    let tell = |watch: &Watch, value, ms| watch.story(Moment::of(ms), &|_| value).remove(0).verdict;
    assert_eq!(tell(&watch, Some(0.5), 0), "quiet: memory.usage > 0.9 is 0.5, off by 0.4");
    assert_eq!(tell(&watch, None, 0), "cannot be told: nothing is known for memory.usage > 0.9");
    let raised = watch.step(Moment::of(1_000), &|_| Some(0.95));
    assert_eq!(raised[0].reason, "holds: memory.usage > 0.9 (0.95)");
    assert_eq!(tell(&watch, Some(0.95), 6_000), "raised for 5s");
    watch.step(Moment::of(7_000), &|_| Some(0.5));
    assert_eq!(tell(&watch, Some(0.5), 9_000), "raised for 8s; clears after 30s of quiet, 2s so far");
    let cleared = watch.step(Moment::of(37_000), &|_| Some(0.5));
    assert_eq!(cleared[0].reason, "holds no longer for 30s: memory.usage > 0.9 (0.5)");
}

#[test]
fn other_rules_keep_what_is_raised_and_what_goes_on() {
    let other = MonitoringRule { raise: "memory-low".to_owned(), ..rule("memory.usage < 0.1", 20) };
    let mut watch = Watch::new(rules(&[rule("memory.usage > 0.9", 0), other.clone()]), [], 0);
    watch.step(Moment::of(1_000), &|_| Some(0.95));
    watch.follow(rules(&[other.clone(), rule("memory.usage > 0.5", 0)]), 2_000);
    assert_eq!(watch.raised().collect::<Vec<_>>(), ["memory-high"], "another threshold, the same alert");
    watch.step(Moment::of(3_000), &|_| Some(0.05));
    watch.follow(rules(&[other]), 13_000);
    assert_eq!(watch.raised().count(), 0, "its rule is gone");
    assert_eq!(watch.step(Moment::of(23_000), &|_| Some(0.05)).len(), 1, "the same rule went on counting");
}

#[test]
fn what_was_raised_before_a_restart_is_cleared_once_it_may() {
    let mut watch = Watch::new(rules(&[rule("memory.usage > 0.9", 0)]), ["memory-high", "gone"], 50_000);
    assert_eq!(watch.raised().collect::<Vec<_>>(), ["memory-high"]);
    assert_eq!(watch.step(Moment::of(51_000), &|_| Some(0.1)), []);
    assert_eq!(watch.step(Moment::of(81_000), &|_| Some(0.1)).len(), 1);
}

proptest::proptest! {
    /// Whatever the signal does, an alert stays at least as long as its quiet takes, so it is raised seldom; and a look
    /// that sees nothing changes nothing.
    #[test]
    fn noise_and_gaps_never_make_it_flap(
        values in proptest::collection::vec(proptest::option::weighted(0.8, 0.85_f64..0.95), 1..400),
        hold in 0_u64..40,
    ) {
        let mut scene = Scene::of(rule("memory.usage > 0.9", hold));
        let (mut raised, mut quiet_secs) = (false, 0);
        let quiet_wanted = hold.max(CLEAR_HOLD_MIN.0 / 1_000);
        for value in values {
            let changes = scene.show(value, 1);
            quiet_secs = match value {
                Some(value) if value > 0.9 => 0,
                Some(_) => quiet_secs + 1,
                None => quiet_secs,
            };
            proptest::prop_assert!(changes.is_empty() || value.is_some(), "nothing was seen: {changes:?}");
            for (_, is_raised) in changes {
                proptest::prop_assert!(is_raised != raised, "told twice");
                proptest::prop_assert!(is_raised == (value.unwrap() > 0.9));
                proptest::prop_assert!(is_raised || quiet_secs >= quiet_wanted, "cleared after {quiet_secs} s of quiet");
                raised = is_raised;
            }
        }
    }
}
