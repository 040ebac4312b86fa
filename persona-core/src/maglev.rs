//! The Maglev table: which edge carries a flow, and which one when that is dead.
//!
//! Every edge has its own permutation of the rows, from its name, so that all machines build the same table and one
//! edge's leaving moves hardly any row of the others. The second choice of a row is what the same filling gives without
//! the first choice, so that a dead edge's rows spread over all others.

use sha2::{Digest, Sha256};

use crate::ids::EdgeNumber;

/// Rows of a table: a prime, and about a hundred times the edges of a large group (Maglev, NSDI 2016, §3.4 and §5.3).
pub const ROW_COUNT: usize = 65_537;

/// Edges that one table can hold: weights stay within 2 % of their share up to here.
pub const EDGE_COUNT_MAX: usize = 512;

/// No edge.
const NONE: EdgeNumber = EdgeNumber(0);

/// First and second choice of every row, from edges given as number, name and weight. Edges of weight 0 take no rows;
/// with one edge there is no second choice, with none no first; number 0 stands for none.
pub fn build(edges: &[(EdgeNumber, &str, u16)]) -> Vec<(EdgeNumber, EdgeNumber)> {
    build_rows(ROW_COUNT, edges)
}

/// The same with another number of rows, a prime.
pub fn build_rows(row_count: usize, edges: &[(EdgeNumber, &str, u16)]) -> Vec<(EdgeNumber, EdgeNumber)> {
    let weighty = edges.iter().filter(|(_, _, weight)| *weight > 0);
    let mut turns: Vec<Turn> = weighty.map(|edge| Turn::new(row_count, edge)).collect();
    turns.sort_by_key(|turn| turn.order);
    let nobody = vec![NO_CHOICE; row_count];
    let first = fill(&turns, &nobody);
    let second = if turns.len() > 1 { fill(&turns, &first) } else { nobody };
    let number_of = |choice: &u16| turns.get(usize::from(*choice)).map_or(NONE, |turn| turn.number);
    first.iter().zip(&second).map(|(one, two)| (number_of(one), number_of(two))).collect()
}

/// A table in which these edges are the first choice, row by row in turn, and what a group's table says the second: where
/// a preferred edge is dead, its rows spread over all others of the group by weight. Without edges it is the group's.
pub fn preferring(rows: &[(EdgeNumber, EdgeNumber)], edges: &[EdgeNumber]) -> Vec<(EdgeNumber, EdgeNumber)> {
    let in_turn = edges.iter().copied().cycle().map(Some).chain(std::iter::repeat(None));
    let preferred = rows.iter().zip(in_turn).map(|((first, second), edge)| match edge {
        None => (*first, *second),
        Some(edge) if edge == *first => (edge, *second),
        Some(edge) => (edge, *first),
    });
    preferred.collect()
}

/// The 64-bit finaliser of SplitMix64: a bijection in which every input bit changes half of the output bits.
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// No choice was made for a row yet.
const NO_CHOICE: u16 = u16::MAX;

/// An edge that takes rows in turn.
struct Turn {
    number: EdgeNumber,
    /// Who goes first in a round; from the name, so that numbers do not matter.
    order: u64,
    offset: usize,
    skip: usize,
    weight: u32,
}

impl Turn {
    fn new(row_count: usize, (number, name, weight): &(EdgeNumber, &str, u16)) -> Self {
        let hash = Sha256::digest(name.as_bytes());
        let word = |index: usize| {
            u64::from_le_bytes(hash[index * 8..index * 8 + 8].try_into().expect("a SHA-256 has four words"))
        };
        Self {
            number: *number,
            order: word(0),
            offset: (word(1) % row_count as u64) as usize,
            skip: (word(2) % (row_count as u64 - 1)) as usize + 1,
            weight: u32::from(*weight),
        }
    }
}

/// Fills a table round by round: in each, an edge takes as many of its next free rows as its weight earns.
/// A row whose `taken` choice is the edge itself is not for it.
fn fill(turns: &[Turn], taken: &[u16]) -> Vec<u16> {
    let row_count = taken.len();
    let mut rows = vec![NO_CHOICE; row_count];
    let heaviest = turns.iter().map(|turn| turn.weight).max().unwrap_or(0);
    let mut cursors: Vec<(usize, usize, u32)> = turns.iter().map(|turn| (turn.offset, 0, 0)).collect();
    let mut free = if turns.is_empty() { 0 } else { row_count };
    while free > 0 {
        let mut progress = false;
        for (index, (turn, (row, seen, credit))) in turns.iter().zip(&mut cursors).enumerate() {
            *credit += turn.weight;
            if *credit < heaviest {
                progress |= *seen < row_count;
                continue;
            }
            *credit -= heaviest;
            let own = index as u16;
            while *seen < row_count && (rows[*row] != NO_CHOICE || taken[*row] == own) {
                *row = (*row + turn.skip) % row_count;
                *seen += 1;
            }
            if *seen < row_count {
                rows[*row] = own;
                free -= 1;
                progress = true;
                if free == 0 {
                    return rows;
                }
            }
        }
        if !progress {
            break;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn group(names: &[String], weight: u16) -> Vec<(EdgeNumber, &str, u16)> {
        names.iter().enumerate().map(|(index, name)| (EdgeNumber(index as u16 + 1), name.as_str(), weight)).collect()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("edge-{index}")).collect()
    }

    fn shares(table: impl Iterator<Item = EdgeNumber>) -> BTreeMap<EdgeNumber, f64> {
        let mut counts = BTreeMap::new();
        let mut total = 0.0;
        for edge in table {
            *counts.entry(edge).or_insert(0.0) += 1.0;
            total += 1.0;
        }
        counts.values_mut().for_each(|count| *count /= total);
        counts
    }

    #[test]
    fn rows_are_shared_evenly_within_two_percent() {
        for count in [1, 2, 3, 10, 50] {
            let table = build(&group(&names(count), 1));
            let fair = 1.0 / count as f64;
            let first = shares(table.iter().map(|(first, _)| *first));
            assert_eq!(first.len(), count);
            assert!(first.values().all(|share| (share / fair - 1.0).abs() < 0.02), "{count}: {first:?}");
        }
    }

    #[test]
    fn rows_follow_the_weights_within_two_percent() {
        let names = names(3);
        let edges: Vec<_> =
            group(&names, 1).into_iter().zip([100, 300, 600]).map(|((n, name, _), w)| (n, name, w)).collect();
        let first = shares(build(&edges).into_iter().map(|(first, _)| first));
        for (number, _, weight) in edges {
            let fair = f64::from(weight) / 1_000.0;
            assert!((first[&number] / fair - 1.0).abs() < 0.02, "{first:?}");
        }
    }

    #[test]
    fn one_of_ten_leaving_moves_under_two_percent_of_the_others() {
        let names = names(10);
        let all = group(&names, 1);
        let before = build(&all);
        for gone in 0..all.len() {
            let rest: Vec<_> =
                all.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, edge)| *edge).collect();
            let after = build(&rest);
            let pairs = before.iter().zip(&after).filter(|(old, _)| old.0 != all[gone].0);
            let (kept, moved) = pairs.fold(
                (0, 0),
                |(kept, moved), (old, new)| {
                    if old.0 == new.0 { (kept + 1, moved) } else { (kept, moved + 1) }
                },
            );
            let needless = f64::from(moved) / f64::from(kept + moved);
            assert!(needless < 0.02, "edge {gone}: {needless:.4} moved without need");
        }
    }

    #[test]
    fn a_changed_weight_moves_little_more_than_it_must() {
        let names = names(5);
        let table = |weight: u16| {
            let mut edges = group(&names, 100);
            edges[0].2 = weight;
            build(&edges).into_iter().map(|(first, _)| first).collect::<Vec<_>>()
        };
        let before = table(100);
        let share = |weight: f64| weight / (400.0 + weight);
        for weight in [50, 90, 110, 200] {
            let moved = before.iter().zip(&table(weight)).filter(|(old, new)| old != new).count();
            let (moved, must) = (moved as f64 / ROW_COUNT as f64, (share(weight.into()) - share(100.0)).abs());
            assert!(moved < must + 0.04, "weight {weight}: {moved:.4} moved, {must:.4} must");
        }
    }

    #[test]
    fn the_rows_of_a_dead_edge_spread_over_all_others() {
        let names = names(5);
        let table = build(&group(&names, 1));
        assert!(table.iter().all(|(first, second)| first != second && *second != NONE));
        for dead in (1..=5).map(EdgeNumber) {
            let heirs = shares(table.iter().filter(|(first, _)| *first == dead).map(|(_, second)| *second));
            assert_eq!(heirs.len(), 4);
            assert!(heirs.values().all(|share| (0.15..0.35).contains(share)), "{heirs:?}");
        }
    }

    #[test]
    fn a_preferred_edge_is_first_and_its_heirs_are_the_others_by_weight() {
        let names = names(4);
        let edges: Vec<_> =
            group(&names, 1).into_iter().zip([1, 1, 2, 4]).map(|((n, name, _), w)| (n, name, w)).collect();
        let own = build(&edges);
        for preferred in (1..=4).map(EdgeNumber) {
            let table = preferring(&own, &[preferred]);
            assert!(table.iter().all(|(first, second)| *first == preferred && second != first && *second != NONE));
            let heirs = shares(table.iter().map(|(_, second)| *second));
            let rest: f64 = edges.iter().filter(|edge| edge.0 != preferred).map(|edge| f64::from(edge.2)).sum();
            for (number, _, weight) in edges.iter().filter(|edge| edge.0 != preferred) {
                let fair = f64::from(*weight) / rest;
                assert!((heirs[number] / fair - 1.0).abs() < 0.35, "{preferred}: {heirs:?}");
            }
        }
        let both = shares(preferring(&own, &[EdgeNumber(1), EdgeNumber(3)]).into_iter().map(|(first, _)| first));
        assert!(both.len() == 2 && both.values().all(|share| (share - 0.5).abs() < 0.001), "{both:?}");
        assert_eq!(preferring(&own, &[]), own);
        let alone = preferring(&build(&[(EdgeNumber(7), "a", 1)]), &[EdgeNumber(7)]);
        assert!(alone.iter().all(|row| *row == (EdgeNumber(7), NONE)));
    }

    #[test]
    fn a_table_needs_no_more_edges_than_there_are() {
        assert!(build(&[]).iter().all(|row| *row == (NONE, NONE)));
        assert!(build(&[(EdgeNumber(7), "a", 1)]).iter().all(|row| *row == (EdgeNumber(7), NONE)));
        assert!(build(&[(EdgeNumber(7), "a", 0)]).iter().all(|row| *row == (NONE, NONE)));
        let two = build(&[(EdgeNumber(7), "a", 1), (EdgeNumber(8), "b", 1)]);
        assert!(two.iter().all(|(first, second)| first.0 + second.0 == 15));
    }

    #[test]
    fn names_and_not_the_order_of_the_list_decide() {
        let names = names(4);
        let mut edges = group(&names, 1);
        let table = build(&edges);
        edges.reverse();
        assert_eq!(build(&edges), table);
    }
}
