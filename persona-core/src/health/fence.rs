//! Whether an edge that did not acknowledge can still do harm with an old lease table.
//!
//! An edge that the manager does not reach may go on serving with what it has. It is harmless once it is out of all
//! tables *and* answers neither ARP nor ND. Both are known without asking it: an edge answers only while it reaches a
//! peer or a node, and whoever could reach it (each node that was told of it, each peer of its group) says for longer
//! than the edge needs to notice its own loneliness that it does not hear it. A witness that says nothing proves
//! nothing: the edge stays unfenced until that witness speaks again or is deleted. An edge that comes back is
//! [`super::EdgeState::Down`] until it acknowledged everything that is published for it, and answers for nothing itself
//! until it caught up.
//!
//! What this cannot see: an edge also takes an answering next hop towards the nodes for company, so behind a router it may
//! go on answering although no witness hears it; and one that comes back while the manager is away serves with its old
//! table after a few seconds. The quarantine and the nodes' own checks are what is left then.

use super::judge::EdgeState;
use super::testimony::{Says, Testimony};

/// Whether an edge is fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fence {
    /// It carries nothing and answers for nothing.
    Fenced,
    /// It may.
    Unfenced {
        /// Why that cannot be excluded.
        reason: String,
    },
}

impl Fence {
    /// Whether it is fenced.
    pub fn is_fenced(&self) -> bool {
        *self == Self::Fenced
    }
}

/// Whether an edge in `state` is fenced by what all its witnesses say, who are asked until the word of one is enough.
/// `notice_ms` is how long an edge may take to notice that it reaches nobody.
pub fn fence(state: EdgeState, testimonies: impl IntoIterator<Item = Testimony>, notice_ms: u64) -> Fence {
    let unfenced = |reason: String| Fence::Unfenced { reason };
    if state != EdgeState::Down {
        return unfenced(format!("it is {state}"));
    }
    let mut testimonies = testimonies.into_iter().peekable();
    if testimonies.peek().is_none() {
        return unfenced("nobody probes it, so nobody can say that it is dead".to_owned());
    }
    for testimony in testimonies {
        match testimony.says {
            Says::Alive => return unfenced(format!("{} hears it", testimony.who)),
            Says::Nothing => {
                return unfenced(format!(
                    "{} says nothing about it; bring that one back, or delete it if it is gone",
                    testimony.who
                ));
            }
            Says::Dead { for_ms } if for_ms < notice_ms => {
                return unfenced(format!("{} has not heard it for {for_ms} ms only", testimony.who));
            }
            Says::Dead { .. } => {}
        }
    }
    Fence::Fenced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::WitnessKind;

    #[test]
    fn an_edge_is_fenced_only_by_everybodys_word() {
        let says = |who: &str, says| Testimony { who: who.into(), kind: WitnessKind::Node, says, hears_any: true };
        let dead = |for_ms| Says::Dead { for_ms };
        let cases = [
            (EdgeState::Down, vec![says("n1", dead(5_000)), says("n2", dead(4_000))], "fenced"),
            (EdgeState::Up, vec![says("n1", dead(5_000))], "it is up"),
            (EdgeState::Down, vec![], "nobody probes it"),
            (EdgeState::Down, vec![says("n1", dead(5_000)), says("n2", Says::Alive)], "n2 hears it"),
            (EdgeState::Down, vec![says("n1", dead(5_000)), says("n2", Says::Nothing)], "n2 says nothing"),
            (EdgeState::Down, vec![says("n1", dead(999))], "for 999 ms only"),
        ];
        for (state, testimonies, expected) in cases {
            let told = match fence(state, testimonies, 1_000) {
                Fence::Fenced => "fenced".to_owned(),
                Fence::Unfenced { reason } => reason,
            };
            assert!(told.contains(expected), "{told}, not {expected}");
        }
    }
}
