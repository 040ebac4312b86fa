//! The state of an edge, with the reason: one that is half-dead is told from one that is dead.
//!
//! | who says what | then |
//! |---|---|
//! | one node of several does not hear it | that node's path is bad: the edge serves, flagged |
//! | a node that hears nobody does not hear it | that node is cut off ([`super::is_cut_off`]): nothing is said of the edge |
//! | most of the nodes do not hear it | it serves, flagged and degraded |
//! | no node hears it | down |
//! | only peers do not hear it | it serves, flagged and degraded |
//! | it says that its outside next hop is dead | down |
//! | it is silent towards the manager | down; where a node hears it and nobody else serves, it stays in the tables |
//! | it comes and goes | down for longer each time ([`super::Hold`]), unless somebody works on it |

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hold::Hold;
use super::testimony::{Says, Testimony, WitnessKind, believed};

/// Whether an edge serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EdgeState {
    /// It registered and has not yet acknowledged its state.
    New,
    /// It serves.
    Up,
    /// It does not.
    Down,
}

impl fmt::Display for EdgeState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::New => "new",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// What the manager itself hears of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// It has not reported since it registered or since the manager started, and still has time.
    NotYet,
    /// It did not report for longer than it may.
    Silent {
        /// How long it may be silent, milliseconds.
        limit_ms: u64,
    },
    /// It reports.
    Reports {
        /// Whether it has any state in force; without, it came back without its tables.
        has_state: bool,
        /// Whether its outside next hop answers, as far as it says.
        outside_alive: Option<bool>,
        /// Whether it acknowledged everything published for it.
        is_current: bool,
    },
}

/// What a judgement rests on.
#[derive(Debug, Clone, Copy)]
pub struct EdgeFacts<'a> {
    /// Its state so far.
    pub was: EdgeState,
    /// What the manager hears of it.
    pub contact: Contact,
    /// What nodes and peers say.
    pub testimonies: &'a [Testimony],
    /// Whether somebody works on it: then it may come and go, and is held back for none of that.
    pub in_maintenance: bool,
    /// Its comings and goings so far.
    pub hold: Hold,
    /// The longest hold, milliseconds.
    pub hold_max_ms: u64,
    /// Now.
    pub now_ms: u64,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Its state.
    pub state: EdgeState,
    /// A sentence for people.
    pub reason: String,
    /// What is wrong with it although it serves.
    pub flags: Vec<String>,
    /// Whether that is wrong for everybody, and not only for the one node whose path is bad.
    pub is_degraded: bool,
    /// Silent, but heard by a node: it carries flows, and where no other edge of the group serves it shall go on.
    pub is_lifeline: bool,
    /// Its comings and goings.
    pub hold: Hold,
}

/// Judges an edge.
pub fn judge(facts: &EdgeFacts<'_>) -> Judgement {
    let (now_ms, was) = (facts.now_ms, facts.was);
    let down = |reason, hold| Judgement {
        state: EdgeState::Down,
        reason,
        flags: vec![],
        is_degraded: false,
        is_lifeline: is_lifeline(facts),
        hold,
    };
    let stays = |state, reason: &str, hold| Judgement {
        state,
        reason: reason.to_owned(),
        flags: vec![],
        is_degraded: false,
        is_lifeline: false,
        hold,
    };
    let believed = believed(facts.testimonies);
    if let Some(cause) = cause_of_death(facts, &believed) {
        let counts = was == EdgeState::Up && !facts.in_maintenance;
        let hold = if counts { facts.hold.gone_down(now_ms, facts.hold_max_ms) } else { facts.hold.unwell() };
        return down(cause, hold);
    }
    let is_current = match facts.contact {
        Contact::NotYet if was == EdgeState::Up => true,
        Contact::NotYet => return stays(was, "it has not reported yet", facts.hold),
        Contact::Reports { is_current, .. } => is_current,
        Contact::Silent { .. } => unreachable!("silence is a cause of death"),
    };
    if was == EdgeState::Up {
        let (flags, is_degraded) = flags(&believed);
        let reason =
            if flags.is_empty() { "it serves".to_owned() } else { format!("it serves, but {}", flags.join("; ")) };
        return Judgement { state: was, reason, flags, is_degraded, is_lifeline: false, hold: facts.hold };
    }
    let hold = facts.hold.well(now_ms);
    match hold.left_ms(now_ms, facts.hold_max_ms) {
        _ if !is_current => stays(was, "it has not yet acknowledged everything published for it", hold),
        left_ms if was == EdgeState::Down && left_ms > 0 && !facts.in_maintenance => {
            let times = if hold.count == 1 { "once".to_owned() } else { format!("{} times", hold.count) };
            let reason = format!(
                "it is well again and held back for {} ms: it went down {times} lately",
                hold.duration_ms(facts.hold_max_ms)
            );
            stays(was, &reason, hold)
        }
        _ => stays(EdgeState::Up, "it reports and acknowledged everything published for it", hold.gone_up(now_ms)),
    }
}

fn cause_of_death(facts: &EdgeFacts<'_>, believed: &[&Testimony]) -> Option<String> {
    match facts.contact {
        Contact::NotYet => return None,
        Contact::Silent { limit_ms } => return Some(format!("it did not report for {limit_ms} ms")),
        Contact::Reports { has_state: false, .. } if facts.was == EdgeState::Up => {
            return Some("it came back without its tables".to_owned());
        }
        Contact::Reports { outside_alive: Some(false), .. } => {
            return Some("its outside next hop does not answer".to_owned());
        }
        Contact::Reports { .. } => {}
    }
    let nodes: Vec<_> = believed.iter().filter(|it| it.kind == WitnessKind::Node).collect();
    let is_dead_for_all = !nodes.is_empty() && nodes.iter().all(|it| it.is_dead());
    let deaf: Vec<&str> = believed.iter().filter(|it| it.is_dead()).map(|it| it.who.as_str()).collect();
    match is_dead_for_all {
        false => None,
        true if deaf.len() == believed.len() => {
            Some(format!("none of those who probe it hears it ({})", deaf.join(", ")))
        }
        true => Some(format!("no node that probes it hears it ({})", deaf.join(", "))),
    }
}

/// What is wrong although it serves, and whether for everybody.
fn flags(believed: &[&Testimony]) -> (Vec<String>, bool) {
    let deaf = |kind| {
        let deaf = believed.iter().filter(move |it| it.kind == kind && it.is_dead());
        deaf.map(|it| it.who.as_str()).collect::<Vec<_>>()
    };
    let (nodes, peers) = (deaf(WitnessKind::Node), deaf(WitnessKind::Peer));
    let node_count = believed.iter().filter(|it| it.kind == WitnessKind::Node).count();
    let is_degraded = !peers.is_empty() || 2 * nodes.len() > node_count;
    let nodes = (!nodes.is_empty()).then(|| format!("{} cannot reach it: the path is bad", nodes.join(", ")));
    let peers = (!peers.is_empty()).then(|| format!("its peers {} do not hear it", peers.join(", ")));
    (nodes.into_iter().chain(peers).collect(), is_degraded)
}

fn is_lifeline(facts: &EdgeFacts<'_>) -> bool {
    let is_silent = matches!(facts.contact, Contact::Silent { .. });
    is_silent && facts.testimonies.iter().any(|it| it.kind == WitnessKind::Node && it.says == Says::Alive)
}

#[cfg(test)]
mod tests {
    use super::super::hold::HOLD_MAX_MS;
    use super::*;

    const GOOD: Contact = Contact::Reports { has_state: true, outside_alive: Some(true), is_current: true };

    /// Words such as `n1+` (node n1 hears it), `p2-` (peer p2 does not), `n3?` (says nothing), `n4x` (hears nobody).
    fn testimonies(text: &str) -> Vec<Testimony> {
        let one = |word: &str| {
            let (name, says) = word.split_at(word.len() - 1);
            let kind = if name.starts_with('n') { WitnessKind::Node } else { WitnessKind::Peer };
            let hears_any = says != "x";
            let says = match says {
                "+" => Says::Alive,
                "?" => Says::Nothing,
                _ => Says::Dead { for_ms: 5_000 },
            };
            Testimony { who: name.to_owned(), kind, says, hears_any }
        };
        text.split_whitespace().map(one).collect()
    }

    fn judged(was: EdgeState, contact: Contact, text: &str) -> Judgement {
        let testimonies = testimonies(text);
        judge(&EdgeFacts {
            was,
            contact,
            testimonies: &testimonies,
            in_maintenance: false,
            hold: Hold::default(),
            hold_max_ms: HOLD_MAX_MS,
            now_ms: 10_000,
        })
    }

    #[test]
    fn half_dead_edges_are_told_from_dead_ones() {
        use EdgeState::{Down, New, Up};
        let stale = Contact::Reports { has_state: true, outside_alive: None, is_current: false };
        let no_outside = Contact::Reports { has_state: true, outside_alive: Some(false), is_current: true };
        let empty = Contact::Reports { has_state: false, outside_alive: None, is_current: false };
        let silent = Contact::Silent { limit_ms: 5_000 };
        let cases = [
            (Up, GOOD, "", Up, "it serves"),
            (Up, GOOD, "n1+ n2- p2+", Up, "n2 cannot reach it: the path is bad"),
            (Up, GOOD, "n1- n2- p2-", Down, "none of those who probe it hears it (n1, n2, p2)"),
            (Up, GOOD, "n1- n2- p2+", Down, "no node that probes it hears it (n1, n2)"),
            (Up, GOOD, "n1+ p2- p3-", Up, "its peers p2, p3 do not hear it"),
            (Up, GOOD, "p2- p3-", Up, "its peers p2, p3 do not hear it"),
            (Up, GOOD, "n1x p2+", Up, "it serves"),
            (Up, GOOD, "n1x n2+", Up, "it serves"),
            (Up, GOOD, "n1x n2+ n3-", Up, "it serves, but n3 cannot reach it"),
            (Up, GOOD, "n1x", Down, "none of those who probe it hears it (n1)"),
            (Up, GOOD, "n1? n2?", Up, "it serves"),
            (Up, no_outside, "n1+", Down, "its outside next hop does not answer"),
            (Up, silent, "n1+", Down, "it did not report for 5000 ms"),
            (Up, stale, "n1+", Up, "it serves"),
            (Up, empty, "n1+", Down, "it came back without its tables"),
            (New, empty, "n1+", New, "not yet acknowledged"),
            (New, stale, "", New, "not yet acknowledged"),
            (New, GOOD, "", Up, "acknowledged everything"),
            (New, Contact::NotYet, "", New, "has not reported yet"),
            (Up, Contact::NotYet, "n1-", Up, "it serves"),
        ];
        for (was, contact, text, state, reason) in cases {
            let judgement = judged(was, contact, text);
            assert_eq!(judgement.state, state, "{text}: {judgement:?}");
            assert!(judgement.reason.contains(reason), "{text}: {judgement:?}");
        }
        for (text, expected) in [
            ("n1+ n2+ n3- p2+", (1, false)),
            ("n1+ n2- p2+", (1, false)),
            ("n1+ n2- n3- p2+", (1, true)),
            ("n1+ n2+ p2-", (1, true)),
            ("n1x n2+ n3+", (0, false)),
        ] {
            let judgement = judged(Up, GOOD, text);
            assert_eq!((judgement.flags.len(), judgement.is_degraded), expected, "{text}: {judgement:?}");
        }
        assert!(judged(Up, silent, "n1+").is_lifeline);
        assert!(!judged(Up, silent, "n1- p2+").is_lifeline);
    }

    #[test]
    fn an_edge_that_flaps_is_held_down_longer_each_time() {
        let (mut state, mut hold, mut now_ms) = (EdgeState::Up, Hold::default(), 1_000_000);
        for expected_ms in [1_000, 2_000, 4_000, 8_000] {
            let step = |was, text: &str, hold, now_ms| {
                let testimonies = testimonies(text);
                judge(&EdgeFacts {
                    was,
                    contact: GOOD,
                    testimonies: &testimonies,
                    in_maintenance: false,
                    hold,
                    hold_max_ms: HOLD_MAX_MS,
                    now_ms,
                })
            };
            let fell = step(state, "n1-", hold, now_ms);
            assert_eq!(fell.state, EdgeState::Down);
            let well = step(EdgeState::Down, "n1+", fell.hold, now_ms + 10);
            assert!(well.reason.contains(&format!("held back for {expected_ms} ms")), "{well:?}");
            let early = step(EdgeState::Down, "n1+", well.hold, now_ms + 9 + expected_ms);
            assert_eq!(early.state, EdgeState::Down);
            let up = step(EdgeState::Down, "n1+", early.hold, now_ms + 10 + expected_ms);
            assert_eq!(up.state, EdgeState::Up);
            (state, hold, now_ms) = (up.state, up.hold, now_ms + 1_000 + expected_ms);
        }
    }

    #[test]
    fn an_edge_in_maintenance_comes_and_goes_without_being_held_back() {
        let (mut state, mut hold) = (EdgeState::Up, Hold::default());
        for round in 0..5 {
            for (text, expected) in [("n1-", EdgeState::Down), ("n1+", EdgeState::Up)] {
                let testimonies = testimonies(text);
                let judgement = judge(&EdgeFacts {
                    was: state,
                    contact: GOOD,
                    testimonies: &testimonies,
                    in_maintenance: true,
                    hold,
                    hold_max_ms: HOLD_MAX_MS,
                    now_ms: 1_000_000 + round,
                });
                assert_eq!((judgement.state, judgement.hold.count), (expected, 0), "{round}: {judgement:?}");
                (state, hold) = (judgement.state, judgement.hold);
            }
        }
    }
}
