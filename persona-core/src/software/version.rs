//! Versions of Debian's packages, and how they compare (deb-version(7)).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Longest version, bytes.
const LENGTH_MAX: usize = 200;

/// Longest epoch, digits.
const EPOCH_LENGTH_MAX: usize = 9;

/// `[EPOCH:]UPSTREAM[-REVISION]`.
#[derive(Debug, Clone)]
pub struct Version {
    text: String,
    epoch: u32,
    /// Where the upstream version begins and ends in the text; the revision stands behind it.
    upstream: (usize, usize),
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no version: write one such as 1.22.1-9")]
pub struct VersionError {
    /// What was given.
    pub given: String,
}

impl Version {
    fn upstream(&self) -> &str {
        &self.text[self.upstream.0..self.upstream.1]
    }

    /// Empty where there is none, which compares as 0.
    fn revision(&self) -> &str {
        self.text[self.upstream.1..].trim_start_matches('-')
    }
}

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        read(text).ok_or_else(|| VersionError { given: text.to_owned() })
    }
}

fn read(text: &str) -> Option<Version> {
    let start = text.find(':').map_or(0, |colon| colon + 1);
    let epoch = text[..start].trim_end_matches(':');
    let end = text.rfind('-').filter(|dash| *dash > start).unwrap_or(text.len());
    let (upstream, revision) = (&text[start..end], text.get(end + 1..));
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b".+-:~".contains(&byte);
    let is_upstream = upstream.starts_with(|it: char| it.is_ascii_digit()) && upstream.bytes().all(is_sign);
    let is_revision =
        |revision: &str| !revision.is_empty() && revision.bytes().all(|byte| byte != b':' && is_sign(byte));
    let is_epoch = start == 0 || epoch.len() <= EPOCH_LENGTH_MAX && epoch.bytes().all(|byte| byte.is_ascii_digit());
    let is_version = text.len() <= LENGTH_MAX && is_epoch && is_upstream && revision.is_none_or(is_revision);
    let epoch = if start == 0 { Some(0) } else { epoch.parse().ok() };
    is_version.then_some(Version { text: text.to_owned(), epoch: epoch?, upstream: (start, end) })
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare(self.upstream(), other.upstream()))
            .then_with(|| compare(self.revision(), other.revision()))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Versions may be equal that are written differently, such as 1.0 and 1.0-0.
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

/// Runs of other signs and of digits take turns; the latter compare as numbers.
fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    while !one.is_empty() || !other.is_empty() {
        let (signs, digits) = parts(&mut one);
        let (other_signs, other_digits) = parts(&mut other);
        let ordering = compare_signs(signs, other_signs).then_with(|| compare_digits(digits, other_digits));
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

/// Takes the signs in front of the first digit off, and the digits that follow.
fn parts<'a>(text: &mut &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let all = *text;
    let start = all.iter().position(u8::is_ascii_digit).unwrap_or(all.len());
    let end = all[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(all.len(), |length| start + length);
    *text = &all[end..];
    (&all[..start], &all[start..end])
}

/// `~` comes before the end, letters before all other signs.
fn compare_signs(one: &[u8], other: &[u8]) -> Ordering {
    let rank = |signs: &[u8], at: usize| match signs.get(at) {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(sign) => i32::from(*sign) + 256,
    };
    let longest = one.len().max(other.len());
    let mut ranks = (0..longest).map(|at| rank(one, at).cmp(&rank(other, at)));
    ranks.find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

/// Of whatever length; no digits are 0.
fn compare_digits(one: &[u8], other: &[u8]) -> Ordering {
    let (one, other) = (without_zeros(one), without_zeros(other));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_dpkgs_order() {
        let rising = [
            "1.0~~",
            "1.0~~a",
            "1.0~",
            "1.0~rc1-1",
            "1.0",
            "1.0-0.1",
            "1.0-1~bpo12+1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb12u1",
            "1.0a",
            "1.0a1",
            "1.0+b",
            "1.0.1",
            "1.2",
            "1.10",
            "1.10000000000000000000001",
            "10",
            "1:0.1",
            "2:0.0.1-1",
        ];
        let versions: Vec<Version> = rising.iter().map(|text| text.parse().unwrap()).collect();
        for (index, version) in versions.iter().enumerate() {
            assert!(versions[..index].iter().all(|earlier| earlier < version), "{version}");
        }
        for (one, other) in
            [("1.0", "1.0-0"), ("1.0a", "1.0a0"), ("0:1.0", "1.0"), ("1.00", "1.0"), ("1.0-01", "1.0-1")]
        {
            assert_eq!(one.parse::<Version>().unwrap(), other.parse::<Version>().unwrap());
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in ["", "a", ":1", "a:1", "1:", "1.0-", "1_0", "1.0 ", "-1", "v1.0", "1.0-1:2", "99999999999:1", "1é"]
        {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
        assert!(["1", "1.0-1-2", "1:2:3-4", "0"].iter().all(|text| text.parse::<Version>().is_ok()));
    }

    proptest::proptest! {
        #[test]
        fn the_order_is_one(texts in proptest::collection::vec("[0-9][0-9a-c.+~-]{0,5}", 3)) {
            let read = |text: &String| text.parse::<Version>().ok();
            let [Some(one), Some(two), Some(three)] = [read(&texts[0]), read(&texts[1]), read(&texts[2])] else {
                return Ok(());
            };
            proptest::prop_assert_eq!(one.cmp(&two), two.cmp(&one).reverse());
            if one <= two && two <= three {
                proptest::prop_assert!(one <= three, "{} {} {}", one, two, three);
            }
        }
    }
}
