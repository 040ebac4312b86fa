//! Three-valued logic after Kleene: what holds, what does not, and what cannot be told.

use serde::{Deserialize, Serialize};

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum Truth {
    /// It does not.
    False,
    /// A signal is missing, and the answer depends on it.
    Unknown,
    /// It does.
    True,
}

impl Truth {
    /// Both.
    pub fn and(self, other: Truth) -> Truth {
        self.min(other)
    }

    /// At least one.
    pub fn or(self, other: Truth) -> Truth {
        self.max(other)
    }

    /// One of two, by this one; where this one is unknown, what both agree on.
    pub fn choose(self, then: Truth, otherwise: Truth) -> Truth {
        match self {
            Self::True => then,
            Self::False => otherwise,
            Self::Unknown if then == otherwise => then,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl std::ops::Not for Truth {
    type Output = Truth;
    fn not(self) -> Truth {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Truth::{False, True, Unknown};

    const ALL: [Truth; 3] = [False, Unknown, True];

    #[test]
    fn the_laws_of_kleene_hold() {
        for one in ALL {
            assert_eq!(!!one, one);
            assert_eq!((one.and(True), one.or(False)), (one, one));
            assert_eq!((one.and(False), one.or(True)), (False, True));
            for two in ALL {
                assert_eq!((one.and(two), one.or(two)), (two.and(one), two.or(one)));
                assert_eq!(!one.and(two), (!one).or(!two));
                for three in ALL {
                    assert_eq!(one.and(two.or(three)), one.and(two).or(one.and(three)));
                    let chosen = one.choose(two, three);
                    let spelt_out = one.and(two).or((!one).and(three)).or(two.and(three));
                    assert_eq!(chosen, spelt_out);
                }
            }
        }
    }

    #[test]
    fn knowing_more_never_turns_an_answer_round() {
        // If an answer is known while an operand is not, it stays whatever the operand turns out to be.
        for two in ALL {
            for known in [False, True] {
                for operation in [Truth::and, Truth::or] {
                    let before = operation(Unknown, two);
                    assert!(before == Unknown || operation(known, two) == before);
                }
            }
        }
    }
}
