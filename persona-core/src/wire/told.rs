//! The events that nodes and edges tell of, and what each of them may be about.
//!
//! An agent's word goes into the log that people, webhooks and the audit chain rest on. So it tells under these names alone,
//! which no manager uses for what it found out itself, unless the other form of `about` tells them apart.

use super::agent::Role;

/// Bytes of an event's message, and of the reason of a rejection, that are kept.
pub const MESSAGE_LENGTH_MAX: usize = 4_096;

/// Bytes that the name of what an event is about may have.
pub const ABOUT_LENGTH_MAX: usize = 512;

/// What an event may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The agent itself: its bare name, or `node/NAME`, `edge/NAME`.
    Itself,
    /// The node or one of its workloads: `node/NAME`, `workload/NODE/NAME`, or the bare name of either.
    Subject,
    /// A device of its host, a file, or a target that it watches: a word without a meaning elsewhere.
    Place,
    /// An edge by its bare name: to nodes any that they probe, to edges one of their group.
    Edge,
    /// A lease of a subject of the node, as `lease/ID`.
    Lease,
    /// A group of edges, by its bare name.
    Group,
    /// A persona, as `persona/NAME`.
    Persona,
    /// An egress address or an IPv6 next hop of the edge's group.
    OwnAddress,
    /// An address of the underlay.
    FarEnd,
}

use About::{Edge, FarEnd, Group, Itself, Lease, OwnAddress, Persona, Place, Subject};

/// Names that nodes tell under.
const OF_NODES: &[(&str, &[About])] = &[
    ("address.changed", &[Place]),
    ("apply.failing", &[Itself]),
    ("apply.put-back", &[Itself]),
    ("assignment.asked", &[Itself]),
    ("configure.failed", &[Subject]),
    ("configure.unreachable", &[Subject]),
    ("edge.down", &[Edge]),
    ("edge.up", &[Edge]),
    ("firewall.unenforced", &[Subject]),
    ("host.unclassified", &[Subject]),
    ("impair.unenforced", &[Subject]),
    ("lease.cut", &[Lease]),
    ("lease.nearly-full", &[Subject]),
    ("limits.applied", &[Subject]),
    ("limits.changed-by-others", &[Subject]),
    ("limits.failed", &[Subject]),
    ("limits.recovered", &[Subject]),
    ("limits.reverted", &[Subject]),
    ("mtu.changed", &[Subject, Place]),
    ("mtu.device", &[Subject]),
    ("mtu.lowered", &[Subject]),
    ("network.unreachable", &[Subject]),
    ("plan.no-room", &[Group]),
    ("prefer-ipv6.failed", &[Subject, Place]),
    ("qos.overbooked", &[Persona]),
    ("qos.unenforced", &[Subject]),
    ("qos.uplink-overbooked", &[Itself]),
    ("security.failed", &[Subject]),
    ("security.in-force", &[Subject]),
    ("security.needs-restart", &[Subject]),
    ("software.as-wanted", &[Subject]),
    ("software.drifted", &[Subject]),
    ("software.failed", &[Subject]),
    ("uplink.down", &[Place]),
    ("uplink.renamed", &[Place]),
    ("uplink.replaced", &[Place]),
    ("uplink.up", &[Place]),
    ("workload.appeared", &[Subject]),
    ("workload.renamed", &[Subject]),
    ("workload.replaced", &[Subject]),
    ("workload.vanished", &[Subject]),
];

/// Names that edges tell under.
const OF_EDGES: &[(&str, &[About])] = &[
    ("address.taken-over", &[OwnAddress]),
    ("apply.failing", &[Itself]),
    ("edge.down", &[Edge]),
    ("edge.up", &[Edge]),
    ("mtu.lowered", &[FarEnd]),
    ("node.heard", &[FarEnd]),
    ("node.silent", &[FarEnd]),
    ("outside.down", &[Place]),
    ("outside.up", &[Place]),
    ("qos.policed", &[Itself]),
    ("routes.announced", &[Itself]),
    ("routes.failing", &[Itself]),
    ("routes.withdrawn", &[Itself]),
];

/// What an event of this name may be about when such an agent tells it. None: it tells nothing under that name.
pub fn abouts(role: Role, name: &str) -> Option<&'static [About]> {
    let names = match role {
        Role::Node => OF_NODES,
        Role::Edge => OF_EDGES,
    };
    names.iter().find(|(known, _)| *known == name).map(|(_, abouts)| *abouts)
}

/// Whether nodes or edges tell under this name.
pub fn is_told(name: &str) -> bool {
    [Role::Node, Role::Edge].into_iter().any(|role| abouts(role, name).is_some())
}

/// A text of others, as much of it as is kept: the rest gives way to its length. It is one line, and says nothing to a terminal.
pub fn kept(text: String) -> String {
    let whole = text.len();
    let mut text = if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text };
    if whole > MESSAGE_LENGTH_MAX {
        let end = (0..=MESSAGE_LENGTH_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(&format!("… ({whole} bytes in all)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manager_alone_says_is_no_agents_to_tell() {
        for (name, node, edge) in [
            ("workload.vanished", true, false),
            ("routes.failing", false, true),
            ("mtu.lowered", true, true),
            ("agent.revoked", false, false),
            ("document.deleted", false, false),
            ("workload.gone", false, false),
            ("lease.freed", false, false),
            ("", false, false),
        ] {
            assert_eq!(abouts(Role::Node, name).is_some(), node, "{name}");
            assert_eq!(abouts(Role::Edge, name).is_some(), edge, "{name}");
            assert_eq!(is_told(name), node || edge, "{name}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_say_so() {
        assert_eq!(kept("short".to_owned()), "short");
        let long = kept("ä".repeat(MESSAGE_LENGTH_MAX));
        assert!(long.starts_with("ää") && long.ends_with("… (8192 bytes in all)"), "{long}");
        assert_eq!(kept("a\n7 b\u{1b}[2J\u{9b}c\td".to_owned()), "a 7 b [2J c d");
        let odd = kept(format!("x{}", "ä".repeat(MESSAGE_LENGTH_MAX)));
        assert!(odd.len() < MESSAGE_LENGTH_MAX + 40 && odd.ends_with("… (8193 bytes in all)"));
    }
}
