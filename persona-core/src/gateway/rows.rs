//! The rows of a service's Maglev table: first and second choice among the instances that take new flows.
//!
//! Dead and draining instances are left out, so the others share their rows by weight. Until the table in force is this
//! one, the data path skips them by their state.

use crate::ids::EdgeNumber;
use crate::maglev;

/// An instance as the table sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its number in the data path, at least 1.
    pub number: u16,
    /// Its name within the service: gateways that know the same names build the same table.
    pub name: &'a str,
    /// Its share; 0: none.
    pub weight: u16,
    /// Whether it takes new flows.
    pub takes_new: bool,
}

/// First and second choice of every row; number 0 stands for nobody.
pub fn build(row_count: usize, candidates: &[Candidate<'_>]) -> Vec<(u16, u16)> {
    let takers = candidates.iter().filter(|it| it.takes_new);
    // Instances and edges fill tables alike.
    let numbered: Vec<_> = takers.map(|it| (EdgeNumber(it.number), it.name, it.weight)).collect();
    maglev::build_rows(row_count, &numbered).into_iter().map(|(first, second)| (first.0, second.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW_COUNT: usize = 16_381;

    fn share(rows: &[(u16, u16)], number: u16) -> f64 {
        rows.iter().filter(|(first, _)| *first == number).count() as f64 / rows.len() as f64
    }

    fn candidate(number: u16, name: &str, weight: u16) -> Candidate<'_> {
        Candidate { number, name, weight, takes_new: true }
    }

    #[test]
    fn shares_follow_the_weights_within_two_percent() {
        let candidates = [candidate(1, "a", 100), candidate(2, "b", 300), candidate(3, "c", 600), candidate(4, "d", 0)];
        let rows = build(ROW_COUNT, &candidates);
        for (number, fair) in [(1, 0.1), (2, 0.3), (3, 0.6)] {
            assert!((share(&rows, number) / fair - 1.0).abs() < 0.02, "{number}: {}", share(&rows, number));
        }
        assert_eq!(share(&rows, 4), 0.0);
        assert!(rows.iter().all(|(first, second)| first != second && *second != 0));
    }

    #[test]
    fn a_hundred_instances_share_within_five_percent() {
        let names: Vec<String> = (0..100).map(|index| format!("instance-{index}")).collect();
        let all: Vec<_> = names.iter().zip(1..).map(|(name, number)| candidate(number, name, 100)).collect();
        let rows = build(ROW_COUNT, &all);
        for number in 1..=100 {
            assert!((share(&rows, number) * 100.0 - 1.0).abs() < 0.05, "{number}: {}", share(&rows, number));
        }
    }

    #[test]
    fn who_takes_nothing_new_moves_hardly_any_row_of_the_others() {
        let names: Vec<String> = (0..10).map(|index| format!("instance-{index}")).collect();
        let mut all: Vec<_> = names.iter().zip(1..).map(|(name, number)| candidate(number, name, 100)).collect();
        let before = build(ROW_COUNT, &all);
        all[3].takes_new = false;
        let after = build(ROW_COUNT, &all);
        let others = before.iter().zip(&after).filter(|(old, _)| old.0 != 4);
        let moved = others.filter(|(old, new)| old.0 != new.0).count();
        assert!((moved as f64) < 0.04 * ROW_COUNT as f64, "{moved}");
        assert!(after.iter().all(|(first, second)| *first != 4 && *second != 4));
        all[3].takes_new = true;
        assert_eq!(build(ROW_COUNT, &all), before, "who returns finds its own rows");
    }
}
