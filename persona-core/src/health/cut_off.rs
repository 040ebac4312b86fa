//! A node that hears nobody: its own network is cut off, or its way to all of its edges.

/// What a node says of one edge that it probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probed {
    /// Whether it hears the edge.
    pub alive: bool,
    /// Since when it says so, milliseconds.
    pub for_ms: u64,
    /// Whether the edge serves, as far as everybody's word goes.
    pub serves: bool,
}

/// Whether a node that reports is cut off from its edges: it hears none of those that it probes, each for longer than
/// `patience_ms`, and one of them serves all the same. Where none serves it is not the node's trouble.
pub fn is_cut_off(probed: impl IntoIterator<Item = Probed>, patience_ms: u64) -> bool {
    let mut one_serves = false;
    for edge in probed {
        if edge.alive || edge.for_ms <= patience_ms {
            return false;
        }
        one_serves |= edge.serves;
    }
    one_serves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_nobody_although_somebody_serves_is_cut_off() {
        let edge = |alive, for_ms, serves| Probed { alive, for_ms, serves };
        let cases = [
            (vec![], false, "it probes nobody"),
            (vec![edge(false, 2_001, true)], true, ""),
            (vec![edge(false, 2_000, true)], false, "a blink"),
            (vec![edge(false, 9_000, false), edge(false, 9_000, true)], true, ""),
            (vec![edge(false, 9_000, false), edge(false, 9_000, false)], false, "all edges are down"),
            (vec![edge(false, 9_000, true), edge(true, 9_000, true)], false, "it hears one"),
        ];
        for (probed, expected, why) in cases {
            assert_eq!(is_cut_off(probed.iter().copied(), 2_000), expected, "{probed:?} {why}");
        }
    }
}
