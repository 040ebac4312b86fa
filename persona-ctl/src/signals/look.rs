//! One look at something, and what two looks say: levels as they are, totals as rates, parts as shares.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A signal's name: the catalogue's, or one that a configuration has made.
pub(super) type Name = Cow<'static, str>;

/// Signal → value, in the signal's unit.
pub(super) type Values = BTreeMap<Name, f64>;

/// What one look saw. What is missing is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Look {
    /// Values as they are.
    pub(super) levels: Vec<(Name, f64)>,
    /// Totals that only grow; the signal is their growth per second.
    pub(super) totals: Vec<(Name, f64)>,
    /// A part and a whole that only grow; the signal is the share in what they grew by.
    pub(super) shares: Vec<(Name, f64, f64)>,
    /// Processors that are permitted: `cpu.utilisation` is `cpu.usage` as a share of them.
    pub(super) cpu_permitted: Option<f64>,
}

impl Look {
    /// Notes a level, if it is there.
    pub(super) fn level(&mut self, signal: impl Into<Name>, value: Option<f64>) {
        self.levels.extend(value.map(|value| (signal.into(), value)));
    }

    /// Notes a total, if it is there.
    pub(super) fn total(&mut self, signal: impl Into<Name>, value: Option<f64>) {
        self.totals.extend(value.map(|value| (signal.into(), value)));
    }

    /// Notes a part and its whole, if both are there.
    pub(super) fn share(&mut self, signal: impl Into<Name>, part: Option<u64>, whole: Option<u64>) {
        self.shares.extend(part.zip(whole).map(|(part, whole)| (signal.into(), part as f64, whole as f64)));
    }
}

/// Looks at the same thing, one after the other.
#[derive(Debug, Default)]
pub(super) struct Looks(Option<(Instant, Look)>);

impl Looks {
    /// Takes the next look in. Rates need two of them.
    pub(super) fn next(&mut self, at: Instant, look: Look) -> Values {
        let mut values: Values = look.levels.iter().cloned().collect();
        if let Some((before_at, before)) = &self.0 {
            values.extend(rates(before, &look, at.saturating_duration_since(*before_at)));
        }
        self.0 = Some((at, look));
        values
    }

    /// What is looked at next is not what was looked at before.
    pub(super) fn start_anew(&mut self) {
        self.0 = None;
    }
}

/// What changed between two looks. A total that went back belongs to something new, and says nothing yet.
fn rates(before: &Look, after: &Look, time: Duration) -> Values {
    let mut values = Values::new();
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return values;
    }
    for (signal, total) in &after.totals {
        let known = before.totals.iter().find(|(name, _)| name == signal);
        let growth = known.map(|(_, before)| total - before).filter(|growth| *growth >= 0.0);
        values.extend(growth.map(|growth| (signal.clone(), growth / seconds)));
    }
    for (signal, part, whole) in &after.shares {
        let Some((_, part_before, whole_before)) = before.shares.iter().find(|(name, ..)| name == signal) else {
            continue;
        };
        let (part, whole) = (part - part_before, whole - whole_before);
        if part >= 0.0 && whole >= 0.0 {
            values.insert(signal.clone(), if whole == 0.0 { 0.0 } else { (part / whole).min(1.0) });
        }
    }
    let permitted = after.cpu_permitted.filter(|permitted| *permitted > 0.0);
    if let (Some(usage), Some(permitted)) = (values.get("cpu.usage").copied(), permitted) {
        // Quotas are kept period by period: a little more than permitted is measured now and then.
        values.insert("cpu.utilisation".into(), (usage / permitted).min(1.0));
    }
    values
}

#[cfg(test)]
mod tests {
    use persona_core::signal::SignalName;

    use super::*;

    fn look(cpu: f64, read: f64, throttled: (u64, u64)) -> Look {
        let mut look = Look { cpu_permitted: Some(2.0), ..Look::default() };
        look.level("memory.bytes", Some(7.0));
        look.level("memory.usage", None);
        look.total("cpu.usage", Some(cpu));
        look.total("io.read_bytes", Some(read));
        look.share("cpu.throttling", Some(throttled.0), Some(throttled.1));
        look
    }

    #[test]
    fn two_looks_make_rates_and_shares_and_what_went_back_says_nothing() {
        let (start, mut looks) = (Instant::now(), Looks::default());
        let at = |ms| start + Duration::from_millis(ms);
        let first = looks.next(at(0), look(10.0, 1_000.0, (1, 10)));
        assert_eq!(
            first,
            Values::from([("memory.bytes".into(), 7.0)]),
            "one look has no rates, and what is missing stays so"
        );
        let second = looks.next(at(500), look(10.5, 1_000.0, (3, 14)));
        let expected = [
            ("memory.bytes", 7.0),
            ("cpu.usage", 1.0),
            ("cpu.utilisation", 0.5),
            ("io.read_bytes", 0.0),
            ("cpu.throttling", 0.5),
        ];
        assert_eq!(second, expected.map(|(name, value)| (name.into(), value)).into());
        assert!(second.keys().all(|name| name.parse::<SignalName>().is_ok()));
        let third = looks.next(at(1_500), look(0.1, 3_000.0, (3, 14)));
        assert_eq!((third.get("cpu.usage"), third.get("cpu.utilisation")), (None, None), "another instance by now");
        assert_eq!((third["io.read_bytes"], third["cpu.throttling"]), (2_000.0, 0.0));
        looks.start_anew();
        assert_eq!(looks.next(at(2_500), look(9.0, 9_000.0, (3, 14))).len(), 1);
    }
}
