//! One look at something, and what two looks say: levels as they are, totals as rates, parts as shares.

use std::borrow::Cow;
use std::time::{Duration, Instant};

/// A signal's name: the catalogue's, or one that a configuration has made.
pub(super) type Name = Cow<'static, str>;

/// Signals and their values, in their units: by name, each once. A row is short and made anew each second for everybody, so it is
/// one piece of memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Values(Vec<(Name, f64)>);

impl Values {
    /// The names, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Names and values, in the order of names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Name, f64)> {
        self.0.iter()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A value by its name.
    #[cfg(test)]
    fn get(&self, name: &str) -> Option<f64> {
        let found = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        Some(self.0[found].1)
    }
}

impl Extend<(Name, f64)> for Values {
    /// What comes later takes the place of what was there.
    fn extend<I: IntoIterator<Item = (Name, f64)>>(&mut self, more: I) {
        self.0.extend(more);
        // Of the same name the newest comes first, and stays.
        self.0.reverse();
        self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.0.dedup_by(|(next, _), (kept, _)| next == kept);
    }
}

impl FromIterator<(Name, f64)> for Values {
    fn from_iter<I: IntoIterator<Item = (Name, f64)>>(all: I) -> Self {
        let mut values = Self::default();
        values.extend(all);
        values
    }
}

impl<const COUNT: usize> From<[(Name, f64); COUNT]> for Values {
    fn from(all: [(Name, f64); COUNT]) -> Self {
        all.into_iter().collect()
    }
}

impl IntoIterator for Values {
    type IntoIter = std::vec::IntoIter<(Name, f64)>;
    type Item = (Name, f64);

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

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
        let mut values = Vec::with_capacity(look.levels.len() + look.totals.len() + look.shares.len() + 1);
        values.extend(look.levels.iter().cloned());
        if let Some((before_at, before)) = &self.0 {
            add_rates(&mut values, before, &look, at.saturating_duration_since(*before_at));
        }
        self.0 = Some((at, look));
        values.into_iter().collect()
    }

    /// What is looked at next is not what was looked at before.
    pub(super) fn start_anew(&mut self) {
        self.0 = None;
    }
}

/// Adds what changed between two looks. A total that went back belongs to something new, and says nothing yet.
fn add_rates(values: &mut Vec<(Name, f64)>, before: &Look, after: &Look, time: Duration) {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return;
    }
    let mut usage = None;
    for (at, (signal, total)) in after.totals.iter().enumerate() {
        // Looks at the same thing see the same, one after the other.
        let same = before.totals.get(at).filter(|(name, _)| name == signal);
        let known = same.or_else(|| before.totals.iter().find(|(name, _)| name == signal));
        let Some(growth) = known.map(|(_, before)| total - before).filter(|growth| *growth >= 0.0) else { continue };
        if signal == "cpu.usage" {
            usage = Some(growth / seconds);
        }
        values.push((signal.clone(), growth / seconds));
    }
    for (signal, part, whole) in &after.shares {
        let Some((_, part_before, whole_before)) = before.shares.iter().find(|(name, ..)| name == signal) else {
            continue;
        };
        let (part, whole) = (part - part_before, whole - whole_before);
        if part >= 0.0 && whole >= 0.0 {
            values.push((signal.clone(), if whole == 0.0 { 0.0 } else { (part / whole).min(1.0) }));
        }
    }
    let permitted = after.cpu_permitted.filter(|permitted| *permitted > 0.0);
    if let (Some(usage), Some(permitted)) = (usage, permitted) {
        // Quotas are kept period by period: a little more than permitted is measured now and then.
        values.push(("cpu.utilisation".into(), (usage / permitted).min(1.0)));
    }
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
        assert_eq!(second, Values::from(expected.map(|(name, value)| (name.into(), value))));
        assert!(second.names().all(|name| name.parse::<SignalName>().is_ok()));
        let third = looks.next(at(1_500), look(0.1, 3_000.0, (3, 14)));
        assert_eq!((third.get("cpu.usage"), third.get("cpu.utilisation")), (None, None), "another instance by now");
        assert_eq!((third.get("io.read_bytes"), third.get("cpu.throttling")), (Some(2_000.0), Some(0.0)));
        looks.start_anew();
        assert_eq!(looks.next(at(2_500), look(9.0, 9_000.0, (3, 14))).iter().count(), 1);
    }

    #[test]
    fn of_one_name_the_newest_value_stays() {
        let mut values = Values::from([("b".into(), 1.0), ("a".into(), 2.0), ("b".into(), 3.0)]);
        assert_eq!((values.get("a"), values.get("b"), values.get("c")), (Some(2.0), Some(3.0), None));
        values.extend([("c".into(), 5.0), ("a".into(), 4.0)]);
        assert_eq!(values, Values::from([("a".into(), 4.0), ("b".into(), 3.0), ("c".into(), 5.0)]));
        assert!(values.names().is_sorted() && !values.is_empty() && Values::default().is_empty());
    }
}
