//! Criteria: what is accepted with which meaning, and what is refused where and with which advice.

use proptest::prelude::*;

use super::*;

fn evaluate(text: &str, values: &[(&str, f64)]) -> Truth {
    let criterion = Criterion::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let value = |source: &Source| {
        let name = source.to_string();
        values.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
    };
    criterion.evaluate(&criterion.sources().iter().map(value).collect::<Vec<_>>())
}

#[test]
fn criteria_mean_what_they_say() {
    use Truth::{False, True, Unknown};
    let cpu = |value: f64| vec![("cpu.utilisation", value)];
    let cases = [
        ("cpu.utilisation > 0.8", cpu(0.9), True),
        ("cpu.utilisation > 80%", cpu(0.8), False),
        ("80% <= cpu.utilisation", cpu(0.8), True),
        ("cpu.utilisation > 0.8", vec![], Unknown),
        ("!(cpu.utilisation > 0.8)", vec![], Unknown),
        ("cpu.utilisation > 0.8 && memory.usage > 0.5", cpu(0.1), False),
        ("cpu.utilisation > 0.8 || memory.usage > 0.5", cpu(0.9), True),
        ("cpu.utilisation > 0.8 || memory.usage > 0.5", cpu(0.1), Unknown),
        ("has(cpu.utilisation)", cpu(0.1), True),
        ("!has(cpu.utilisation)", vec![], True),
        ("true", vec![], True),
        ("1 + 1 == 2 && 10 % 4 == 2 && -(3 - 5) == abs(-2)", vec![], True),
        ("network.egress_bytes > 200mbit", vec![("network.egress_bytes", 25_000_001.0)], True),
        ("network.egress_bytes > 25MB / 1s", vec![("network.egress_bytes", 25_000_001.0)], True),
        ("total(network.processed_bytes, 1h) >= 50GB", vec![("total(network.processed_bytes, 1h)", 5e10)], True),
        ("network.connections > 500 / 1s", vec![("network.connections", 400.0)], False),
        ("external.surge > 0", vec![("external.surge", 1.0)], True),
        ("external.surge > 5MiB || external.surge > 1h", vec![("external.surge", 4_000.0)], True),
        ("predicted('cpu.utilisation', 30m) > 0.7", vec![("predicted(cpu.utilisation, 30m)", 0.75)], True),
        ("max(cpu.utilisation, 5m) - min(cpu.utilisation, 5m) > 10%", vec![], Unknown),
        ("weekday() in ['sat', 'sun']", vec![("weekday()", 7.0)], True),
        ("weekday('Europe/Berlin') == 'mon'", vec![("weekday('Europe/Berlin')", 2.0)], False),
        ("hour() in [22, 23, 0]", vec![("hour()", 0.0)], True),
        ("(hour() >= 8) == (minute() < 30)", vec![("hour()", 9.0), ("minute()", 45.0)], False),
        ("cpu.utilisation > (hour() >= 8 ? 0.8 : 0.9)", vec![("cpu.utilisation", 0.85), ("hour()", 9.0)], True),
        ("cpu.utilisation > (hour() >= 8 ? 0.8 : 0.9)", vec![("cpu.utilisation", 0.85), ("hour()", 3.0)], False),
        ("cpu.utilisation > (hour() >= 8 ? 0.8 : 0.9)", cpu(0.95), True),
        ("hour() > 12 ? cpu.utilisation > 0.5 : true", vec![("hour()", 3.0)], True),
        ("memory.bytes / memory.working_set > 2", vec![("memory.bytes", 4.0), ("memory.working_set", 0.0)], Unknown),
        ("cron('0 22 * * *', 8h, 'Europe/Berlin')", vec![("cron('0 22 * * *', 8h, 'Europe/Berlin')", 1.0)], True),
        ("memory.bytes > 0", vec![("memory.bytes", 1.0)], True),
    ];
    for (text, values, expected) in cases {
        assert_eq!(evaluate(text, &values), expected, "{text}");
    }
}

#[test]
fn mistakes_are_named_with_column_and_advice() {
    let cases = [
        ("cpu.utilization > 0.8", 1, "unknown signal cpu.utilization; did you mean cpu.utilisation?"),
        ("hour() >= 8 && cpu.utilisation > 80", 16, "is a share from 0 to 1, so this is never true: write 80%"),
        ("memory.bytes > 5", 16, "5 is a plain number and cannot be compared with bytes: write 512MiB"),
        ("cpu.utilisation > 5MiB", 19, "5MiB is bytes and cannot be compared with a plain number"),
        ("cpu.utilisation + 5s > 1", 19, "5s is a length of time and cannot be calculated with a plain number"),
        ("cpu.utilisation > 8parsec", 19, "8parsec is no number with a known unit"),
        ("cpu.utilisation", 1, "compare it, such as cpu.utilisation > 0"),
        ("external.surge && true", 1, "compare it, such as external.surge > 0"),
        ("hour > 8", 1, "hour is a function: write hour('Europe/Berlin')"),
        ("hours() > 8", 1, "unknown function hours; did you mean hour?"),
        ("hour() >= 24", 1, "hour() lies between 0 and 23, so this is never true"),
        ("hour() == 25", 1, "never true"),
        ("hour() >= 0", 1, "always true"),
        ("hour('Europe/Berlni') > 8", 6, "did you mean 'Europe/Berlin'?"),
        ("hour('UTC', 1) > 8", 13, "one argument too many"),
        ("mean(cpu.utilisation, 5) > 0.8", 23, "5 is no length of time: write 10s to 1h"),
        ("mean(cpu.utilisation, 2h) > 0.8", 23, "2h is out of bounds here: write 10s to 1h"),
        ("mean(cpu.utilisation) > 0.8", 1, "mean is written mean(SIGNAL, 5m)"),
        ("mean(5, 5m) > 0.8", 6, "write a signal here"),
        ("predicted('cpu.utilisation', 30s) > 0.8", 30, "write 1m to 1d"),
        ("weekday() in ['sat', 'sund']", 22, "'sund' is no weekday; did you mean 'sun'?"),
        ("weekday() in []", 14, "nothing is in an empty list"),
        ("weekday() in 5", 14, "in wants a list"),
        ("hour() == 'nine'", 11, "texts are compared with weekday() only"),
        ("cron('0 22 * *', 8h)", 6, "write MINUTE HOUR DAY MONTH WEEKDAY"),
        ("cron('0 22 * * *', 8h) > 1", 1, "is true or false and has no order"),
        ("between('22:00', '25:00')", 18, "'25:00' is no time of day"),
        ("between('22:00', '22:00')", 18, "both times are the same"),
        ("1 < 2 < 3", 1, "join conditions with &&"),
        ("1 + true > 2", 5, "true is no number"),
        ("1 / 0 > 2", 1, "this divides by zero"),
        ("memory.bytes * memory.bytes * memory.bytes * memory.bytes > 1", 1, "have no such product"),
        ("5", 1, "a condition is needed here"),
    ];
    for (text, column, message) in cases {
        let error = Criterion::parse(text).map(|criterion| criterion.to_string()).expect_err(text);
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.column, column, "{text}: {error}");
    }
}

#[test]
fn choices_cannot_multiply_without_bound() {
    let choice = "(hour() > 3 ? 1 : 2)";
    let text = format!("{} > 5", [choice; 12].join(" + "));
    assert!(Criterion::parse(&text).unwrap_err().message.contains("alternatives"));
    let nested = (0..20).fold("true".to_owned(), |inner, hour| format!("(hour() > {hour}) == ({inner})"));
    assert!(Criterion::parse(&nested).is_err());
}

fn sample(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(words)
}

/// Conditions over two signals and the clock, together with what they mean.
fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (
            sample(&["cpu.utilisation", "memory.usage", "external.x"]),
            sample(&["<", "<=", ">", ">=", "==", "!="]),
            1_u32..99
        )
            .prop_map(|(signal, compare, value)| format!("{signal} {compare} {value}%")),
        Just("has(memory.usage)".to_owned()),
        Just("true".to_owned()),
        Just("weekday() in ['sat', 'sun']".to_owned()),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one}) && ({two})")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one}) || ({two})")),
            inner.clone().prop_map(|one| format!("!({one})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(one, two, three)| format!("({one}) ? ({two}) : ({three})")),
        ]
    })
}

proptest! {
    #[test]
    fn the_printed_form_means_the_same(text in condition(), values in proptest::collection::vec(0.0_f64..1.0, 4)) {
        let first = Criterion::parse(&text).unwrap();
        let second = Criterion::parse(&first.to_string()).unwrap();
        prop_assert_eq!(first.to_string(), second.to_string());
        prop_assert_eq!(first.evaluate(&values), second.evaluate(&values));
    }

    #[test]
    fn an_answer_without_a_value_stays_when_the_value_is_there(
        text in condition(), values in proptest::collection::vec(0.0_f64..1.0, 4), missing in 0_usize..4,
    ) {
        prop_assume!(!text.contains("has("));
        let criterion = Criterion::parse(&text).unwrap();
        let mut partial = values.clone();
        partial[missing] = f64::NAN;
        let (before, after) = (criterion.evaluate(&partial), criterion.evaluate(&values));
        prop_assert!(before == Truth::Unknown || before == after, "{}: {:?} and then {:?}", text, before, after);
    }

    #[test]
    fn no_text_makes_compilation_panic(text in "(cpu.utilisation|hour\\(\\)|mean\\(cpu.usage, 5m\\)|'sat'|5MiB|0|[-+*/%<>=!&|?:(),\\[\\] ]|in){0,40}") {
        drop(Criterion::parse(&text));
    }
}
