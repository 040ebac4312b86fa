//! What rules decide, one after the other: slow, and plainly what a document says.

use std::net::IpAddr;

use crate::document::{Direction, FirewallAction};
use crate::wire::firewall::FirewallRule;

/// What opens a flow, as the subject sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Who opens: the subject (egress), or somebody towards it.
    pub direction: Direction,
    /// The other side.
    pub remote: IpAddr,
    /// The IP protocol.
    pub protocol: u8,
    /// The destination port; 0 for protocols without ports, ICMP included.
    pub port: u16,
}

/// What becomes of an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What happens.
    pub action: FirewallAction,
    /// The rule that decided, by its place from 0 on. None: none matches, so it passes.
    pub rule: Option<usize>,
}

/// What the rules say of an opening.
pub fn decide(rules: &[FirewallRule], opening: &Opening) -> Verdict {
    match rules.iter().position(|rule| rule.matches(opening)) {
        Some(index) => Verdict { action: rules[index].action, rule: Some(index) },
        None => Verdict { action: FirewallAction::Allow, rule: None },
    }
}
