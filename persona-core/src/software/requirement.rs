//! What is asked of a package's version: `>= 1.22`, `= 1.22.1-9`, `<< 2`.

use std::fmt;
use std::str::FromStr;

use super::version::Version;

/// How a version stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

/// Relations as they are written, the longer ones first. `<` and `>` alone are what people mean by them, not what old
/// control files did.
const RELATIONS: [(&str, Relation); 7] = [
    ("<<", Relation::Earlier),
    ("<=", Relation::EarlierOrEqual),
    (">=", Relation::LaterOrEqual),
    (">>", Relation::Later),
    ("=", Relation::Equal),
    ("<", Relation::Earlier),
    (">", Relation::Later),
];

/// What is asked of a version.
#[derive(Debug, Clone)]
pub struct Requirement {
    relation: Relation,
    version: Version,
}

/// A requirement that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} asks for no version: write one such as 1.22.1-9 behind =, >=, <=, > or <")]
pub struct RequirementError {
    /// What was given.
    pub given: String,
}

impl Requirement {
    /// Whether a version is as asked. A version that cannot be read never is.
    pub fn is_met_by(&self, installed: &str) -> bool {
        let Ok(installed) = installed.parse::<Version>() else { return false };
        let ordering = installed.cmp(&self.version);
        match self.relation {
            Relation::Earlier => ordering.is_lt(),
            Relation::EarlierOrEqual => ordering.is_le(),
            Relation::Equal => ordering.is_eq(),
            Relation::LaterOrEqual => ordering.is_ge(),
            Relation::Later => ordering.is_gt(),
        }
    }
}

/// A version without a relation is that version.
impl FromStr for Requirement {
    type Err = RequirementError;
    fn from_str(text: &str) -> Result<Self, RequirementError> {
        let text = text.trim();
        let known = RELATIONS.iter().find_map(|(word, relation)| Some((*relation, text.strip_prefix(word)?)));
        let (relation, version) = known.unwrap_or((Relation::Equal, text));
        let error = || RequirementError { given: text.to_owned() };
        Ok(Self { relation, version: version.trim().parse().map_err(|_| error())? })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = RELATIONS.iter().find(|(_, relation)| *relation == self.relation);
        write!(formatter, "{} {}", same.map_or("=", |(word, _)| word), self.version)
    }
}

/// Whether a package may have this name (Debian Policy §5.6.1), with `:ARCHITECTURE` behind it if need be.
pub fn is_package_name(name: &str) -> bool {
    let (name, architecture) = name.split_once(':').unwrap_or((name, "any"));
    let is_sign = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    (2..=200).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(is_sign)
        && is_word(architecture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_compare_as_dpkg_does() {
        let cases = [
            (">= 1.22", "1.22.1-9+deb12u1", true),
            (">= 1.22", "1.18.0-6", false),
            (">=1.22", "1.22", true),
            ("= 1.22", "1.22-1", false),
            ("1.22-1", "1.22-1", true),
            ("= 1.0-0", "1.0", true),
            ("> 2", "2.0", true),
            ("<< 2.0", "2.0~rc1-1", true),
            ("< 2.0~rc1", "2.0~beta9", true),
            ("<= 1:1.0", "9.9", true),
            (">= 9.9", "1:1.0", true),
            (">> 1.9", "1.10", true),
            ("= 1.0+b1", "1.0+b1", true),
            (">= 1.0", "nonsense", false),
        ];
        for (requirement, installed, is_met) in cases {
            let parsed: Requirement = requirement.parse().unwrap();
            assert_eq!(parsed.is_met_by(installed), is_met, "{installed} {requirement}");
        }
    }

    #[test]
    fn what_asks_for_no_version_is_refused() {
        for bad in ["", ">=", "latest", ">= latest", "=> 1.2", "~> 1.2", ">= 1.2, < 2", "= 1_2", ">= a:1", "== 1"] {
            let error = bad.parse::<Requirement>().unwrap_err().to_string();
            assert!(error.contains("behind =, >=, <=, > or <"), "{bad}: {error}");
        }
        assert_eq!(" >=  1.22 ".parse::<Requirement>().unwrap().to_string(), ">= 1.22");
    }

    #[test]
    fn names_are_those_of_packages() {
        assert!(["nginx", "libstdc++6", "libc6:amd64", "0ad", "a.b-c"].iter().all(|name| is_package_name(name)));
        assert!(
            ["", "x", "Nginx", "ngi nx", "-x", "nginx:", "a/b", "nginx:AMD"].iter().all(|name| !is_package_name(name))
        );
    }
}
