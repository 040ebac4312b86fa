//! Edges must offer what a persona requires of them, and the path to them keep to its limits.

use std::sync::Arc;

use super::*;
use crate::assign::GroupEdge;

/// A world in which `fra` asks this of its edges, which offer that.
fn asking(edges: &str, offered: [&str; 2]) -> World {
    let mut world = world();
    world.specs[0] = Some(spec(&format!("network: {{egress: {{pools: [fra]}}, edges: {edges}}}")));
    let edge = |(name, offered): (&str, &str)| {
        let (name, capabilities) = (name.parse().unwrap(), capabilities(offered));
        Arc::new(GroupEdge { name, labels: Labels::new(), capabilities, country: None })
    };
    world.groups.get_mut(&"fra".parse().unwrap()).unwrap().edges =
        ["f1", "f2"].into_iter().zip(offered).map(edge).collect();
    world
}

#[test]
fn every_edge_of_a_group_must_offer_what_is_required() {
    let cases = [
        (["scrub fast", "scrub"], "fra", ""),
        (["scrub", "fast"], "tyo", "edge f2 of group fra does not offer scrub"),
        (["", ""], "tyo", "edge f1 of group fra does not offer scrub"),
    ];
    for (offered, expected, why) in cases {
        let decision = answer(&asking("{requires: [scrub]}", offered), Ask::default());
        assert_eq!(picked(&decision), expected, "{offered:?}");
        let (refusal, hint) = told(&decision, "fra");
        assert!(
            refusal.contains(why) && (why.is_empty() || hint.contains("network.edges.requires of fra")),
            "{refusal} {hint}"
        );
    }
    // An edge that comes without it takes nobody's persona away.
    let mut world = asking("{requires: [scrub]}", ["scrub", ""]);
    world.groups.remove(&"tyo".parse().unwrap());
    assert!(answer(&world, Ask { worn: Some("fra"), ..Ask::default() }).pick.unwrap().is_stopgap);
}

#[test]
fn what_every_edge_offers_and_a_persona_prefers_counts() {
    for (offered, points) in [(["a b", "a"], Some(5.0)), (["a", "b"], None)] {
        let decision = answer(&asking("{prefers: [a, b]}", offered), Ask::default());
        let fra = decision.considered.iter().find(|it| it.persona.as_str() == "fra").unwrap();
        assert_eq!(fra.scores.get("edges").copied(), points, "{offered:?}");
    }
}

#[test]
fn a_path_keeps_to_limits_and_one_that_is_not_measured_to_none() {
    let path = |rtt_us, loss, jitter_us| {
        let mut world = asking("{path: {latency: 30ms, loss: 1%, jitter: 4ms}}", ["", ""]);
        let fra = world.groups.get_mut(&"fra".parse().unwrap()).unwrap();
        (fra.rtt_us, fra.loss, fra.jitter_us) = (rtt_us, loss, jitter_us);
        world
    };
    let cases = [
        (Some(30_000), Some(0.01), Some(4_000), "fra", "fra", ""),
        (Some(30_100), Some(0.0), Some(0), "tyo", "fra", "its round trip is 30.1 ms, at most 30 ms is allowed"),
        (Some(38_000), Some(0.0), Some(0), "tyo", "tyo", "its round trip is 38.0 ms"),
        (Some(1_000), Some(0.011), Some(0), "tyo", "fra", "its loss is 1.1 %, at most 1 % is allowed"),
        (Some(1_000), Some(0.0), Some(5_100), "tyo", "tyo", "its jitter is 5.1 ms, at most 4 ms is allowed"),
        (None, Some(0.0), None, "tyo", "tyo", "nobody measured its round trip yet; nobody measured its jitter yet"),
    ];
    for (rtt_us, loss, jitter_us, newcomer, wearer, why) in cases {
        let world = path(rtt_us, loss, jitter_us);
        let decision = answer(&world, Ask::default());
        assert_eq!(picked(&decision), newcomer, "{why}");
        assert!(told(&decision, "fra").0.contains(why), "{:?}", told(&decision, "fra"));
        assert_eq!(picked(&answer(&world, Ask { worn: Some("fra"), ..Ask::default() })), wearer, "worn: {why}");
    }
}
