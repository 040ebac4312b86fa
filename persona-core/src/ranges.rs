//! Sets of address ranges, told with as few ranges as hold exactly the same addresses.

use std::collections::BTreeSet;

use crate::units::Cidr;

/// The fewest ranges that hold these addresses and no others.
pub fn merged(ranges: impl IntoIterator<Item = Cidr>) -> BTreeSet<Cidr> {
    let sorted: BTreeSet<Cidr> = ranges.into_iter().collect();
    let mut merged: Vec<Cidr> = Vec::new();
    for range in sorted {
        if merged.last().is_some_and(|last| last.contains(range.address())) {
            continue;
        }
        merged.push(range);
        while let Some(parent) = whole(&merged) {
            merged.truncate(merged.len() - 2);
            merged.push(parent);
        }
    }
    merged.into_iter().collect()
}

/// The range that the last two are the halves of.
fn whole(ranges: &[Cidr]) -> Option<Cidr> {
    let [.., low, high] = ranges else { return None };
    let is_same_length = low.prefix_length() == high.prefix_length();
    low.parent().filter(|parent| is_same_length && high.parent() == Some(*parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_ranges_hold_exactly_the_same() {
        let cases: [(&[&str], &[&str]); 6] = [
            (&[], &[]),
            (&["203.0.113.65", "203.0.113.64", "203.0.113.66", "203.0.113.67"], &["203.0.113.64/30"]),
            (&["203.0.113.65", "203.0.113.66"], &["203.0.113.65", "203.0.113.66"]),
            (&["203.0.113.64/28", "203.0.113.70", "203.0.113.80/28"], &["203.0.113.64/27"]),
            (&["0.0.0.0/1", "128.0.0.0/1", "::/1"], &["0.0.0.0/0", "::/1"]),
            (&["2001:db8::/64", "2001:db8:0:1::/64", "2001:db8:0:2::/64"], &["2001:db8::/63", "2001:db8:0:2::/64"]),
        ];
        for (given, expected) in cases {
            let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<Cidr>>();
            assert_eq!(merged(parse(given)), parse(expected), "{given:?}");
        }
    }
}
