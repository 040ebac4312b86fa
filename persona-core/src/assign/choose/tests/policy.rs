//! Policies close groups, bound shares and keep subjects apart; what is forbidden is not worn, whatever else there is.

use std::sync::Arc;

use super::*;
use crate::assign::{GroupEdge, Spread, is_forbidden};
use crate::plan::FleetPolicy;

fn policies(text: &str) -> Vec<FleetPolicy> {
    serde_saphyr::from_str(text).unwrap()
}

/// Group `fra` has an edge in Germany and one in France, `tyo` one in Japan and one that does not say.
fn placed(text: &str) -> World {
    let mut world = world();
    let edge = |name: &str, country: Option<&str>, tier: &str| {
        Arc::new(GroupEdge {
            name: name.parse().unwrap(),
            labels: [("tier".to_owned(), tier.to_owned())].into(),
            capabilities: Vec::new(),
            country: country.map(str::to_owned),
        })
    };
    world.groups.get_mut(&"fra".parse().unwrap()).unwrap().edges =
        vec![edge("f1", Some("DE"), "gold"), edge("f2", Some("FR"), "gold")];
    world.groups.get_mut(&"tyo".parse().unwrap()).unwrap().edges =
        vec![edge("t1", Some("JP"), "gold"), edge("t2", None, "iron")];
    world.labels = [("data", "eu"), ("customer", "acme")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    world.ledger = Ledger::new(policies(text), Spread::Group);
    world
}

#[test]
fn one_forbidden_edge_closes_its_group_and_the_policy_is_told() {
    let cases = [
        (
            "[{name: eu, subjects: {labels: {data: eu}}, rule: {residency: [DE, FR]}}]",
            "fra",
            "tyo",
            "eu keeps it in DE, FR, not in JP: edge t1",
        ),
        ("[{name: eu, subjects: {labels: {data: us}}, rule: {residency: [US]}}]", "fra", "", ""),
        ("[{name: de, rule: {residency: [DE]}}]", "none", "fra", "de keeps it in DE, not in FR: edge f2"),
        (
            "[{name: far, rule: {residency: [JP]}}]",
            "none",
            "tyo",
            "no label that is bound says in which country this is: edge t2",
        ),
        (
            "[{name: no, rule: {deny: {edges: [f2]}}}]",
            "tyo",
            "fra",
            "no denies it: edge f2, which may carry it in group fra",
        ),
        ("[{name: no, rule: {deny: {groups: [tyo]}}}]", "fra", "tyo", "no denies it: edge t1"),
        ("[{name: gold, rule: {allow: {labels: {tier: gold}}}}]", "fra", "tyo", "gold allows others only: edge t2"),
        (
            "[{name: a, rule: {allow: {edges: [t1]}}}, {name: b, rule: {allow: {edges: [t2]}}}]",
            "tyo",
            "fra",
            "a allows others only: edge f1",
        ),
    ];
    for (text, expected, refused, why) in cases {
        let decision = answer(&placed(text), Ask::default());
        assert_eq!(picked(&decision), expected, "{text}");
        if !refused.is_empty() {
            let (refusal, hint) = told(&decision, refused);
            assert!(refusal.contains(why), "{text}: {refusal}");
            assert!(hint.contains("change the policy"), "{text}: {hint}");
        }
    }
}

#[test]
fn what_a_policy_forbids_is_taken_off_and_no_person_puts_it_on() {
    let mut world = placed("[{name: de, rule: {residency: [DE]}}]");
    for ask in [
        Ask { worn: Some("fra"), ..Ask::default() },
        Ask { manual: Some("fra"), ..Ask::default() },
        Ask { requested: "low-latency", ..Ask::default() },
    ] {
        assert_eq!(answer(&world, ask).pick, None, "{ask:?}");
    }
    let fra = "fra".parse().unwrap();
    assert!(is_forbidden(&world.ledger, &world.labels, &fra, &world.groups[&fra]));
    // The edge is gone, or was said to be elsewhere.
    world.groups.get_mut(&fra).unwrap().edges.truncate(1);
    assert!(!is_forbidden(&world.ledger, &world.labels, &fra, &world.groups[&fra]));
    assert_eq!(picked(&answer(&world, Ask { worn: Some("fra"), ..Ask::default() })), "fra");
    // A pool of a group that is open takes it.
    let mut other = placed("[{name: no, rule: {deny: {groups: [fra]}}}]");
    other.specs[0] = Some(spec("network: {egress: {pools: [fra, tyo]}}"));
    let pick = answer(&other, Ask { worn: Some("fra"), ..Ask::default() }).pick.unwrap();
    assert_eq!((pick.persona.as_str(), pick.group.as_str()), ("fra", "tyo"));
}

/// Seats others in `fra`, and expects as many subjects in all.
fn crowd(world: &mut World, there: u32, all: u32) {
    (0..all).for_each(|_| world.ledger.expect(&world.labels));
    for number in 0..there {
        let seat = Seat { group: "fra".parse().unwrap(), guaranteed_bps: 0 };
        world.ledger.seat(&subject(&format!("w{number}")), &world.labels, Some(seat));
    }
}

#[test]
fn a_share_of_a_group_is_given_whole_and_who_is_over_it_goes_if_it_can() {
    let rule = "[{name: half, subjects: {labels: {data: eu}}, rule: {maxGroupShare: {share: 50%, group: fra}}}]";
    for (there, all, expected) in [(0, 1, "tyo"), (0, 2, "fra"), (4, 10, "fra"), (5, 10, "tyo"), (5, 12, "fra")] {
        let mut world = placed(rule);
        crowd(&mut world, there, all);
        let decision = answer(&world, Ask::default());
        assert_eq!(picked(&decision), expected, "{there} of {all}");
        if (there, all) == (5, 10) {
            let (refusal, _) = told(&decision, "fra");
            assert!(
                refusal.contains("half lets 5 of the 10 that it is for be in group fra (50%), and 5 are"),
                "{refusal}"
            );
        }
    }
    let mut world = placed(rule);
    crowd(&mut world, 5, 10);
    let own = Seat { group: "fra".parse().unwrap(), guaranteed_bps: 0 };
    world.ledger.seat(&subject("web"), &world.labels, Some(own));
    assert_eq!(picked(&answer(&world, Ask { worn: Some("fra"), ..Ask::default() })), "tyo", "the sixth goes");
    world.groups.remove(&"tyo".parse().unwrap());
    let stays = answer(&world, Ask { worn: Some("fra"), ..Ask::default() }).pick.unwrap();
    assert!(stays.persona.as_str() == "fra" && stays.is_stopgap, "or stays where nothing else can be worn");
    // Somebody whom the policy is not for neither counts nor is bound.
    world.labels.clear();
    assert_eq!(picked(&answer(&world, Ask::default())), "fra");
}

#[test]
fn who_shall_be_apart_shares_no_edge_whether_one_or_all_of_a_group_carry_it() {
    let rule = "[{name: ha, rule: {apart: {label: customer}}}]";
    for (spread, there, expected) in
        [(Spread::Group, 0, "fra"), (Spread::Group, 1, "tyo"), (Spread::Edge, 1, "fra"), (Spread::Edge, 2, "tyo")]
    {
        let mut world = placed(rule);
        world.groups.values_mut().for_each(|group| group.lease_capacity = Some((100, "f1".parse().unwrap())));
        world.ledger = Ledger::new(policies(rule), spread);
        crowd(&mut world, there, there + 1);
        let decision = answer(&world, Ask::default());
        assert_eq!(picked(&decision), expected, "{there} are there, {spread:?}");
        world.labels.insert("customer".into(), "other".into());
        assert_eq!(picked(&answer(&world, Ask::default())), "fra", "another customer");
        world.labels.remove("customer");
        assert_eq!(picked(&answer(&world, Ask::default())), "fra", "nobody's");
    }
    // A group whose edges state nothing is not planned: all of them carry each, steering or not.
    let mut world = placed(rule);
    world.ledger = Ledger::new(policies(rule), Spread::Edge);
    crowd(&mut world, 1, 2);
    let (refusal, hint) = told(&answer(&world, Ask::default()), "fra");
    assert!(refusal.contains("ha keeps those of customer acme apart, 1 on an edge: 1 are in group fra with 2 edges, each of which carries all"), "{refusal}");
    assert!(hint.contains("have the plan steer"), "{hint}");
}
