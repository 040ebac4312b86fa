//! One rule: from the document to numbers, what it matches, and its text.

use std::fmt;

use super::decide::Opening;
use crate::document::{Direction, Firewall, FirewallAction, Protocol};
use crate::wire::firewall::FirewallRule;

impl From<&Firewall> for FirewallRule {
    fn from(rule: &Firewall) -> Self {
        let mut ports = rule.ports.clone();
        ports.sort_unstable();
        ports.dedup();
        Self {
            action: rule.action,
            direction: rule.direction,
            remote: match rule.direction {
                Direction::Egress => rule.to,
                Direction::Ingress => rule.from,
            },
            protocols: rule.protocol.map(|protocol| protocol.numbers().to_vec()).unwrap_or_default(),
            ports,
        }
    }
}

impl FirewallRule {
    /// Whether it is about an opening.
    pub(super) fn matches(&self, opening: &Opening) -> bool {
        self.direction == opening.direction
            && self.remote.is_none_or(|remote| remote.contains(opening.remote))
            && (self.protocols.is_empty() || self.protocols.contains(&opening.protocol))
            && (self.ports.is_empty() || self.ports.contains(&opening.port))
    }
}

impl fmt::Display for FirewallRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.action {
            FirewallAction::Allow => "allow",
            FirewallAction::Deny => "deny",
        })?;
        let (direction, side) = match self.direction {
            Direction::Egress => ("egress", "to"),
            Direction::Ingress => ("ingress", "from"),
        };
        write!(formatter, " {direction}")?;
        self.remote.iter().try_for_each(|remote| write!(formatter, " {side} {remote}"))?;
        let protocol = self.protocols.first().and_then(|number| Protocol::from_number(*number));
        protocol.iter().try_for_each(|protocol| write!(formatter, " {protocol}"))?;
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        if ports.is_empty() { Ok(()) } else { write!(formatter, " {}", ports.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_a_text() {
        let of = |text: &str| FirewallRule::from(&serde_json::from_str::<Firewall>(text).unwrap()).to_string();
        for (document, text) in [
            (r#"{"action":"deny","direction":"egress"}"#, "deny egress"),
            (
                r#"{"action":"deny","direction":"egress","to":"10.0.0.0/8","protocol":"tcp","ports":[465,25,25]}"#,
                "deny egress to 10.0.0.0/8 tcp 25,465",
            ),
            (
                r#"{"action":"allow","direction":"ingress","from":"2001:db8::/32","protocol":"icmp"}"#,
                "allow ingress from 2001:db8::/32 icmp",
            ),
        ] {
            assert_eq!(of(document), text);
        }
    }
}
