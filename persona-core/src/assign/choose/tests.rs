//! Tables of questions and answers.

use super::*;
use crate::assign::{Labels, Ledger, Seat};
use crate::document::{Document, Format, parse_documents};
use crate::ids::{Capability, SubjectId};

mod capacity;
mod closeness;
mod fitness;
mod policy;

struct World {
    names: Vec<PersonaName>,
    specs: Vec<Option<PersonaSpec>>,
    groups: BTreeMap<GroupName, GroupFacts>,
    pools: BTreeMap<PoolName, PoolFacts>,
    labels: Labels,
    ledger: Ledger,
}

fn spec(text: &str) -> PersonaSpec {
    let text = format!("{{apiVersion: persona/v1, kind: Persona, metadata: {{name: x}}, spec: {{{text}}}}}");
    match parse_documents(&text, Format::Yaml, "test").unwrap().remove(0) {
        Document::Persona(persona) => persona.spec,
        other => panic!("{other:?}"),
    }
}

fn capabilities(text: &str) -> Vec<Capability> {
    text.split_whitespace().map(|name| name.parse().unwrap()).collect()
}

fn world() -> World {
    let group = |edges: &str| GroupFacts {
        serving: edges.split_whitespace().map(|name| name.parse().unwrap()).collect(),
        ..GroupFacts::default()
    };
    let pool = |group: &str, best_free| PoolFacts {
        group: group.parse().unwrap(),
        block_bits: 10,
        best_free,
        block_count: 63,
        free_addresses: 1,
        address_count: 2,
        free_prefixes: 0,
        prefix_count: 0,
    };
    World {
        names: ["fra", "tyo", "gone", "plain"].map(|name| name.parse().unwrap()).to_vec(),
        specs: vec![
            Some(spec("network: {egress: {pools: [fra]}}")),
            Some(spec("capabilities: [low-latency], network: {egress: {pools: [tyo]}}")),
            None,
            Some(spec("qos: {egressRate: 1mbit}")),
        ],
        groups: [("fra", group("f1 f2")), ("tyo", group("t1"))].map(|(k, v)| (k.parse().unwrap(), v)).into(),
        pools: [("fra", pool("fra", 9)), ("tyo", pool("tyo", 9))].map(|(k, v)| (k.parse().unwrap(), v)).into(),
        labels: Labels::new(),
        ledger: Ledger::default(),
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Ask<'a> {
    worn: Option<&'a str>,
    manual: Option<&'a str>,
    activated: Option<&'a str>,
    conditional: Option<&'a str>,
    requested: &'a str,
    content: Option<&'a str>,
    preferred: &'a str,
    wants: &'a str,
    uplink_bps: Option<u64>,
    keeps_network: bool,
}

fn answer(world: &World, ask: Ask<'_>) -> Decision {
    let [requested, preferred, wants] = [ask.requested, ask.preferred, ask.wants].map(capabilities);
    let parse = |name: Option<&str>| name.map(|name| name.parse::<PersonaName>().unwrap());
    let content: Option<ContentSource> = ask.content.map(|content| content.parse().unwrap());
    let (worn, manual, activated) = (parse(ask.worn), parse(ask.manual), parse(ask.activated));
    let pool_names: Vec<PoolName> = world.names.iter().map(|name| name.as_str().parse().unwrap()).collect();
    let candidates: Vec<_> = (0..world.names.len())
        .map(|index| Candidate {
            persona: &world.names[index],
            version: 1,
            spec: world.specs[index].as_ref(),
            layer: Layer::Binding,
            position: index,
            required: &[],
            preferred: &preferred,
            is_conditional: ask.conditional == Some(world.names[index].as_str()),
            held: (worn.as_ref() == Some(&world.names[index])).then_some(&pool_names[index]),
        })
        .collect();
    choose(&Question {
        subject: &subject("web"),
        labels: &world.labels,
        candidates: &candidates,
        groups: &world.groups,
        pools: &world.pools,
        ledger: &world.ledger,
        worn: worn.as_ref(),
        manual: manual.as_ref(),
        activated: activated.as_ref().map(|persona| Activated { persona, reason: "external.surge > 0 (1)" }),
        requested: &requested,
        content: content.as_ref(),
        wants: &wants,
        uplink_bps: ask.uplink_bps,
        keeps_network: ask.keeps_network,
    })
}

fn subject(workload: &str) -> SubjectId {
    SubjectId::Workload("n1".parse().unwrap(), workload.parse().unwrap())
}

fn picked(decision: &Decision) -> &str {
    decision.pick.as_ref().map_or("none", |pick| pick.persona.as_str())
}

/// The refusals and the hint of a candidate.
fn told(decision: &Decision, persona: &str) -> (String, String) {
    let found = decision.considered.iter().find(|it| it.persona.as_str() == persona).unwrap();
    (found.refusals.join("; "), found.hint.clone().unwrap_or_default())
}

#[test]
fn the_binding_s_order_a_request_and_a_person_decide_in_rising_order() {
    let cases = [
        (Ask::default(), "fra", Layer::Binding),
        (Ask { requested: "low-latency", ..Ask::default() }, "tyo", Layer::Request),
        (Ask { requested: "low-latency", worn: Some("fra"), ..Ask::default() }, "tyo", Layer::Request),
        (Ask { manual: Some("tyo"), ..Ask::default() }, "tyo", Layer::Manual),
        (Ask { manual: Some("fra"), worn: Some("tyo"), ..Ask::default() }, "fra", Layer::Manual),
        (Ask { worn: Some("tyo"), ..Ask::default() }, "fra", Layer::Binding),
        (Ask { worn: Some("tyo"), preferred: "low-latency", ..Ask::default() }, "fra", Layer::Binding),
    ];
    for (index, (ask, persona, layer)) in cases.into_iter().enumerate() {
        let decision = answer(&world(), ask);
        assert_eq!(picked(&decision), persona, "case {index}: {decision:?}");
        assert_eq!(decision.pick.unwrap().layer, layer, "case {index}");
    }
}

#[test]
fn what_a_node_wants_speaks_for_whatever_persona_has_it_and_does_not_overrule_the_order() {
    let preferred = |wants: &str, persona: &str| {
        let decision = answer(&world(), Ask { wants, ..Ask::default() });
        let considered = decision.considered.iter().find(|it| it.persona.as_str() == persona).unwrap();
        (picked(&decision).to_owned(), considered.scores.get("preferred").copied())
    };
    assert_eq!(preferred("low-latency", "tyo"), ("fra".to_owned(), Some(5.0)));
    assert_eq!(preferred("low-latency", "fra").1, None);
    assert_eq!(preferred("", "tyo").1, None);
    let mut world = world();
    world.names.swap(0, 1);
    world.specs.swap(0, 1);
    world.specs[1].as_mut().unwrap().capabilities = capabilities("low-latency stream").into_iter().collect();
    world.specs[0].as_mut().unwrap().capabilities.clear();
    assert_eq!(picked(&answer(&world, Ask::default())), "tyo");
    let wants = Ask { wants: "low-latency stream", worn: Some("fra"), ..Ask::default() };
    assert_eq!(picked(&answer(&world, wants)), "fra", "two wants and being worn outweigh one place");
}

#[test]
fn a_group_without_a_serving_edge_is_left_for_the_next_persona() {
    let mut world = world();
    let fra = world.groups.get_mut(&"fra".parse().unwrap()).unwrap();
    fra.serving.clear();
    fra.not_serving.push(("f1".parse().unwrap(), "silent".into()));
    let decision = answer(&world, Ask { worn: Some("fra"), ..Ask::default() });
    assert_eq!(picked(&decision), "tyo");
    assert!(decision.pick.unwrap().reason.contains("f1: silent"));
}

#[test]
fn what_is_worn_stays_when_nothing_can_be_worn() {
    let mut world = world();
    world.groups.clear();
    let decision = answer(&world, Ask { worn: Some("tyo"), ..Ask::default() });
    assert_eq!(picked(&decision), "tyo");
    assert!(decision.pick.unwrap().is_stopgap);
    assert_eq!(answer(&world, Ask::default()).pick, None);
}

#[test]
fn a_full_pool_refuses_newcomers_and_keeps_holders() {
    let mut world = world();
    world.pools.get_mut(&"fra".parse::<PoolName>().unwrap()).unwrap().best_free = 0;
    let newcomer = answer(&world, Ask::default());
    assert_eq!(picked(&newcomer), "tyo");
    let fra = newcomer.considered.iter().find(|considered| considered.persona.as_str() == "fra").unwrap();
    assert!(fra.refusals[0].contains("1 blocks of one address are needed, at most 0 are free"), "{fra:?}");
    assert_eq!(picked(&answer(&world, Ask { worn: Some("fra"), ..Ask::default() })), "fra");
}

/// Changes what the persona and its pool say, and asks for a newcomer.
fn asked(network: &str, change: impl Fn(&mut PoolFacts)) -> Decision {
    let mut world = world();
    world.specs = vec![Some(spec(&format!("network: {{egress: {{pools: [fra, tyo], {network}}}}}"))), None, None, None];
    change(world.pools.get_mut(&"fra".parse::<PoolName>().unwrap()).unwrap());
    answer(&world, Ask::default())
}

#[test]
fn a_pool_must_have_the_family_and_room_for_every_lease() {
    let give = |free: u32| move |pool: &mut PoolFacts| (pool.prefix_count, pool.free_prefixes) = (256, free);
    let pool_of = |decision: Decision| decision.pick.map(|pick| pick.pool.to_string());
    let refusal = |decision: Decision| decision.considered[0].refusals.join("; ");
    assert_eq!(pool_of(asked("family: ipv6", give(1))).as_deref(), Some("fra"));
    assert!(
        refusal(asked("family: ipv6", give(0))).contains("pool fra is full: a /64 is needed; all its 256 are held")
    );
    let without = |pool: &mut PoolFacts| pool.prefix_count = 0;
    assert!(refusal(asked("family: ipv6", without)).contains("none of its pools (fra, tyo) has IPv6 prefixes"));
    // Both where a pool has both; one that is full in one family is left for the next.
    assert_eq!(pool_of(asked("family: prefer-ipv6", give(1))).as_deref(), Some("fra"));
    assert_eq!(pool_of(asked("family: prefer-ipv6", give(0))).as_deref(), Some("tyo"));
    let no_address = |pool: &mut PoolFacts| pool.free_addresses = 0;
    assert_eq!(pool_of(asked("assign: configure", |_| ())).as_deref(), Some("fra"));
    assert_eq!(pool_of(asked("assign: configure", no_address)).as_deref(), Some("tyo"));
}

#[test]
fn where_ipv6_is_preferred_a_pool_that_has_it_goes_first() {
    let mut world = world();
    world.specs = vec![Some(spec("network: {egress: {pools: [fra, tyo], family: prefer-ipv6}}")), None, None, None];
    let tyo = world.pools.get_mut(&"tyo".parse::<PoolName>().unwrap()).unwrap();
    (tyo.prefix_count, tyo.free_prefixes) = (16, 16);
    assert_eq!(answer(&world, Ask::default()).pick.unwrap().pool.as_str(), "tyo");
}

#[test]
fn who_keeps_its_network_wears_none() {
    let decision =
        answer(&world(), Ask { manual: Some("fra"), worn: Some("fra"), keeps_network: true, ..Ask::default() });
    assert_eq!(decision.pick, None);
    let refusals: Vec<_> = decision.considered.iter().map(|it| (it.persona.as_str(), it.refusals.join("; "))).collect();
    for (persona, why) in [("fra", "keeps its ordinary network"), ("plain", "no network section")] {
        assert!(refusals.iter().any(|(name, refusal)| *name == persona && refusal.contains(why)), "{refusals:?}");
    }
}

#[test]
fn every_candidate_is_accounted_for() {
    let decision = answer(&world(), Ask { requested: "privacy", ..Ask::default() });
    assert_eq!(decision.pick, None);
    let text = |name: &str| {
        let found = decision.considered.iter().find(|considered| considered.persona.as_str() == name).unwrap();
        (found.refusals.join("; "), found.hint.clone().unwrap())
    };
    assert!(text("fra").0.contains("privacy") && text("tyo").0.contains("privacy"));
    assert!(text("gone").0.contains("no such persona"));
    assert!(text("plain").0.contains("no network section"));
    assert!(text("gone").1.contains("apply a persona named gone"));
}

#[test]
fn criteria_stand_above_the_order_and_below_requests_and_people() {
    let world = world();
    let conditional = Ask { conditional: Some("tyo"), ..Ask::default() };
    let active = Ask { activated: Some("tyo"), ..conditional };
    let asked = |requested| Ask { requested, ..conditional };
    let cases = [
        (conditional, "fra", Layer::Binding),
        (active, "tyo", Layer::Activation),
        (Ask { worn: Some("fra"), ..active }, "tyo", Layer::Activation),
        (Ask { worn: Some("tyo"), ..conditional }, "fra", Layer::Binding),
        (Ask { manual: Some("fra"), ..active }, "fra", Layer::Manual),
        (Ask { manual: Some("tyo"), ..conditional }, "tyo", Layer::Manual),
        (asked("low-latency"), "tyo", Layer::Request),
    ];
    for (ask, persona, layer) in cases {
        let pick = answer(&world, ask).pick.unwrap();
        assert_eq!((pick.persona.as_str(), pick.layer), (persona, layer), "{}", pick.reason);
    }
    assert!(answer(&world, active).pick.unwrap().reason.starts_with("external.surge > 0 (1)"));
    let only_fra =
        World { groups: [("fra".parse().unwrap(), world.groups[&"fra".parse().unwrap()].clone())].into(), ..world };
    let pick = answer(&only_fra, active).pick.unwrap();
    assert!(pick.reason.contains("tyo, whose criteria hold, cannot be worn"), "{}", pick.reason);
}

#[test]
fn loss_outweighs_the_order_and_what_is_worn_and_latency_does_not() {
    let measured = |rtt_us, loss| {
        let mut world = world();
        let fra = world.groups.get_mut(&"fra".parse().unwrap()).unwrap();
        (fra.rtt_us, fra.loss) = (Some(rtt_us), Some(loss));
        let decision = answer(&world, Ask { worn: Some("fra"), ..Ask::default() });
        (picked(&decision).to_owned(), decision)
    };
    for (rtt_us, loss, expected) in
        [(1_000, 0.0, "fra"), (500_000, 0.0, "fra"), (1_000, 0.02, "fra"), (1_000, 0.04, "tyo"), (1_000, 1.0, "tyo")]
    {
        let (persona, decision) = measured(rtt_us, loss);
        assert_eq!(persona, expected, "{loss} lost: {decision:?}");
    }
    let (_, decision) = measured(1_000, 0.5);
    let fra = decision.considered.iter().find(|it| it.persona.as_str() == "fra").unwrap();
    assert_eq!(fra.scores["loss"], -20.0, "so much and no more");
}

#[test]
fn a_guarantee_that_the_uplink_does_not_carry_counts_against_a_persona() {
    let mut world = world();
    world.specs[0] =
        Some(spec("network: {egress: {pools: [fra]}}, qos: {guaranteedRate: 100mbit, shared: {egressRate: 200mbit}}"));
    for (uplink_bps, expected) in [(None, None), (Some(100_000_000), None), (Some(25_000_000), Some(-6.0))] {
        let decision = answer(&world, Ask { uplink_bps, ..Ask::default() });
        let fra = decision.considered.iter().find(|it| it.persona.as_str() == "fra").unwrap();
        assert_eq!(fra.scores.get("rate").copied(), expected, "{uplink_bps:?}");
    }
}
