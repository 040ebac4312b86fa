//! The valid word nearest to a wrong one, for "did you mean".

/// The word nearest to `given`, if one is near enough to have been meant.
pub(crate) fn nearest<'a>(given: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = valid.into_iter().map(|name| (edit_distance(given, name), name)).min();
    best.filter(|(distance, name)| *distance <= 1 + name.len() / 4).map(|(_, name)| name)
}

/// Insertions, deletions and replacements that lead from one word to the other, upper and lower case alike.
fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.to_lowercase(), to.to_lowercase());
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, char) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(char != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let valid = ["egressRate", "ingressRate", "burst"];
        assert_eq!(nearest("egresRate", valid), Some("egressRate"));
        assert_eq!(nearest("BURST", valid), Some("burst"));
        assert_eq!(nearest("colour", valid), None);
    }
}
