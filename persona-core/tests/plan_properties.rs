//! What holds of every plan, on fleets with policies, capabilities, several dimensions and any order of events: nothing is
//! overbooked, no policy broken, moves are few, the same comes from the same, and events come to what reading anew does.

mod plan_world;

use std::collections::BTreeMap;

use persona_core::ids::SubjectId;
use persona_core::plan::{
    Apart, Demand, EdgeSelector, Event, Fleet, FleetEdge, FleetNode, FleetPersona, FleetPolicy, FleetSubject,
    GroupShare, Outcome, Path, PathLimits, Plan, Planner, Rule, Service, SubjectSelector,
};
use persona_core::units::BitRate;
use plan_world::{Noise, edge, node, persona, subject};
use proptest::prelude::*;

const COUNTRIES: [&str; 3] = ["DE", "FR", "JP"];
const CAPABILITIES: [&str; 3] = ["low-latency", "ipv6", "bulk"];

fn pick<'a>(noise: &mut Noise, from: &[&'a str]) -> &'a str {
    from[noise.below(from.len() as u64) as usize]
}

fn rich_edge(noise: &mut Noise, number: usize) -> FleetEdge {
    let group = noise.below(3);
    let leases = noise.between(2, 9);
    let mut edge = edge(&format!("e{number:02}"), &format!("g{group}"), leases);
    edge.capacity.rate = noise.hits(80).then(|| BitRate(noise.between(50, 300) * 1_000_000));
    edge.capacity.flows = noise.hits(50).then(|| noise.between(100, 900));
    let location = serde_json::json!({ "country": COUNTRIES[group as usize], "latitude": noise.between(0, 80), "longitude": noise.between(0, 150) });
    edge.location = noise.hits(90).then(|| serde_json::from_value(location).expect("it is a location"));
    edge.capabilities =
        CAPABILITIES.iter().filter(|_| noise.hits(60)).map(|it| it.parse().expect("it is valid")).collect();
    edge.labels = [("tier".to_owned(), pick(noise, &["gold", "iron"]).to_owned())].into();
    edge.service = if noise.hits(85) { Service::Serving } else { Service::Degraded };
    edge
}

fn rich_personas() -> Vec<FleetPersona> {
    let groups = |numbers: &[u8]| numbers.iter().map(|it| format!("g{it}")).collect::<Vec<_>>();
    let anywhere = persona("anywhere", groups(&[0, 1, 2]));
    let home = FleetPersona { prefers: vec!["ipv6".parse().expect("it is valid")], ..persona("home", groups(&[0, 1])) };
    let fast = FleetPersona {
        requires: vec!["low-latency".parse().expect("it is valid")],
        path: Some(PathLimits { rtt_ms_max: Some(80.0), ..PathLimits::default() }),
        ..persona("fast", groups(&[0, 1, 2]))
    };
    vec![anywhere, home, fast]
}

fn rich_subject(noise: &mut Noise, number: u64) -> FleetSubject {
    let demand = Demand {
        rate: BitRate(noise.between(0, 40) * 1_000_000),
        packets_per_sec: noise.below(1_000),
        flows: noise.below(100),
        leases: noise.between(1, 2),
    };
    let labels: [(&str, &[&str], u64); 3] =
        [("data", &["personal"], 30), ("env", &["test", "live"], 60), ("ring", &["a", "b"], 40)];
    let labels = labels.into_iter().filter(|(_, _, percent)| noise.hits(*percent)).collect::<Vec<_>>();
    FleetSubject {
        workload: (number > 0).then(|| format!("w{number}").parse().expect("it is valid")),
        personas: vec![pick(noise, &["anywhere", "home", "fast"]).parse().expect("it is valid")],
        group: noise.hits(15).then(|| format!("g{}", noise.below(4)).parse().expect("it is valid")),
        requires: noise.hits(10).then(|| "bulk".parse().expect("it is valid")).into_iter().collect(),
        labels: labels.into_iter().map(|(key, of, _)| (key.to_owned(), pick(noise, of).to_owned())).collect(),
        ..subject("anywhere", demand)
    }
}

fn rich_node(noise: &mut Noise, number: u64) -> FleetNode {
    let subjects = (0..noise.between(1, 3)).map(|it| rich_subject(noise, it)).collect();
    let mut node = node(&format!("n{number:02}"), subjects);
    for edge in 0..10 {
        if noise.hits(70) {
            let path = Path { rtt_ms: noise.between(1, 120) as f64, loss: Default::default(), jitter_ms: 1.0 };
            node.paths.insert(format!("e{edge:02}").parse().expect("it is valid"), path);
        }
    }
    node
}

fn rich_policies() -> Vec<FleetPolicy> {
    let selects = |key: &str, value: &str| SubjectSelector { labels: [(key.to_owned(), value.to_owned())].into() };
    let gold = || EdgeSelector { labels: [("tier".to_owned(), "gold".to_owned())].into(), ..EdgeSelector::default() };
    let policy = |name: &str, subjects: SubjectSelector, rule: Rule| FleetPolicy { name: name.into(), subjects, rule };
    vec![
        policy("residency", selects("data", "personal"), Rule::Residency(vec!["DE".into(), "FR".into()])),
        policy("no-tests-on-gold", selects("env", "test"), Rule::Deny(gold())),
        policy("live-on-gold-only", selects("env", "live"), Rule::Allow(gold())),
        policy("apart", SubjectSelector::default(), Rule::Apart(Apart { label: "ring".into(), per_edge: 2 })),
        policy(
            "share",
            SubjectSelector::default(),
            Rule::MaxGroupShare(GroupShare { group: None, share: "50%".parse().expect("it is valid") }),
        ),
    ]
}

fn rich_fleet(noise: &mut Noise) -> Fleet {
    let mut policies = rich_policies();
    policies.retain(|_| noise.hits(70));
    Fleet {
        personas: rich_personas(),
        edges: (0..noise.between(3, 8) as usize).map(|it| rich_edge(noise, it)).collect(),
        nodes: (0..noise.between(5, 25)).map(|it| rich_node(noise, it)).collect(),
        policies,
        ..Fleet::default()
    }
}

/// An event about something that is there.
fn event(noise: &mut Noise, fleet: &Fleet) -> Event {
    let edge = &fleet.edges[noise.below(fleet.edges.len() as u64) as usize];
    let node = fleet.nodes.get(noise.below(fleet.nodes.len().max(1) as u64) as usize);
    let services = [Service::Serving, Service::Serving, Service::Down, Service::Draining, Service::Maintenance];
    match (noise.below(8), node) {
        (0..3, _) => Event::Service(edge.name.clone(), services[noise.below(5) as usize]),
        (3, _) => Event::Capacity(edge.name.clone(), rich_edge(noise, 0).capacity),
        (4, Some(node)) => Event::Demand(node.subjects[0].id(&node.name), rich_subject(noise, 0).demand),
        (5, Some(node)) => Event::NodeLeft(node.name.clone()),
        (6, _) if noise.hits(50) && fleet.edges.len() > 2 => Event::EdgeLeft(edge.name.clone()),
        (6, _) => {
            let number = noise.below(10) as usize;
            Event::Edge(Box::new(rich_edge(noise, number)))
        }
        _ => {
            let number = noise.below(30);
            Event::Node(Box::new(rich_node(noise, number)))
        }
    }
}

/// Who is where, with everything that rules ask for.
struct Placed<'a> {
    id: SubjectId,
    node: &'a FleetNode,
    subject: &'a FleetSubject,
    edge: &'a FleetEdge,
    persona: &'a FleetPersona,
}

impl Placed<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.subject.labels.get(key).or_else(|| self.node.labels.get(key)).map(String::as_str)
    }

    fn is_meant_by(&self, policy: &FleetPolicy) -> bool {
        policy.subjects.labels.iter().all(|(key, value)| self.label(key) == Some(value))
    }
}

fn placed<'a>(fleet: &'a Fleet, plan: &Plan, outcome: &Outcome) -> Vec<Placed<'a>> {
    let mut all = Vec::new();
    for node in &fleet.nodes {
        for subject in &node.subjects {
            let id = subject.id(&node.name);
            let Some(placement) = plan.subjects.get(&id).filter(|_| !outcome.waiting.contains(&id)) else { continue };
            let edge = fleet.edges.iter().find(|edge| edge.name == placement.edge).expect("it is valid");
            let persona = fleet.personas.iter().find(|persona| persona.name == placement.persona).expect("it is valid");
            all.push(Placed { id, node, subject, edge, persona });
        }
    }
    all
}

/// Every rule again, written down the slow way.
fn check_rules(fleet: &Fleet, plan: &Plan, outcome: &Outcome) {
    let placed = placed(fleet, plan, outcome);
    for it in &placed {
        assert!(it.edge.service.takes_subjects(), "{} is on {}, which is out of service", it.id, it.edge.name);
        assert!(it.persona.groups.contains(&it.edge.group) && it.subject.personas.contains(&it.persona.name));
        assert!(it.subject.group.as_ref().is_none_or(|only| *only == it.edge.group), "{} is in another group", it.id);
        for capability in it.subject.requires.iter().chain(&it.persona.requires) {
            assert!(it.edge.capabilities.contains(capability), "{} lacks {capability}", it.edge.name);
        }
        if let Some(most) = it.persona.path.and_then(|path| path.rtt_ms_max) {
            assert!(it.node.paths.get(&it.edge.name).is_some_and(|path| path.rtt_ms <= most), "{} is too far", it.id);
        }
    }
    for edge in &fleet.edges {
        let there = || placed.iter().filter(|it| it.edge.name == edge.name).map(|it| it.subject.demand);
        let (rate, flows): (u64, u64) = (there().map(|it| it.rate.0).sum(), there().map(|it| it.flows).sum());
        assert!(edge.capacity.rate.is_none_or(|most| rate <= most.0), "{} is overbooked", edge.name);
        assert!(edge.capacity.flows.is_none_or(|most| flows <= most), "{} is overbooked", edge.name);
        assert!(edge.capacity.leases.is_none_or(|most| there().map(|it| it.leases).sum::<u64>() <= most));
    }
    fleet.policies.iter().for_each(|policy| check_policy(fleet, policy, &placed));
}

fn check_policy(fleet: &Fleet, policy: &FleetPolicy, placed: &[Placed<'_>]) {
    let meant: Vec<&Placed<'_>> = placed.iter().filter(|it| it.is_meant_by(policy)).collect();
    match &policy.rule {
        Rule::Residency(inside) => {
            for it in meant {
                let country = it.edge.location.as_ref().map(|location| &location.country);
                assert!(country.is_some_and(|country| inside.contains(country)), "{} is abroad", it.id);
            }
        }
        Rule::Deny(selector) => assert!(!meant.iter().any(|it| selector.matches(it.edge)), "{}", policy.name),
        Rule::Allow(selector) => assert!(meant.iter().all(|it| selector.matches(it.edge)), "{}", policy.name),
        Rule::Apart(rule) => {
            let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
            for it in meant {
                if let Some(value) = it.label(&rule.label) {
                    *counts.entry((it.edge.name.as_str(), value)).or_default() += 1;
                }
            }
            assert!(counts.values().all(|count| *count <= rule.per_edge), "{counts:?}");
        }
        Rule::MaxGroupShare(rule) => {
            let all = fleet.nodes.iter().flat_map(|node| node.subjects.iter()).count() as u64;
            let most = all * u64::from(rule.share.millionths()) / 1_000_000;
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            meant.iter().for_each(|it| *counts.entry(it.edge.group.as_str()).or_default() += 1);
            assert!(counts.values().all(|count| *count <= most), "{counts:?} of at most {most}");
        }
    }
}

fn check_moves(outcome: &Outcome) {
    let by_choice = outcome.moves.iter().filter(|it| it.from.is_some() && !it.cause.is_forced()).count();
    assert!(by_choice <= outcome.moved_by_choice && outcome.moved_by_choice <= outcome.budget, "{by_choice}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_rule_is_broken_and_events_come_to_what_reading_anew_does(seed: u64, steps in 1_usize..8) {
        let mut noise = Noise(seed);
        let mut planner = Planner::new(rich_fleet(&mut noise), &Plan::default()).unwrap();
        let first = planner.replan();
        check_rules(planner.fleet(), &planner.plan(), &first);
        for _ in 0..steps {
            let before = planner.plan();
            for _ in 0..noise.between(1, 3) {
                planner.apply(event(&mut noise, planner.fleet())).unwrap();
            }
            let mut anew = Planner::new(planner.fleet().clone(), &before).unwrap();
            let outcome = planner.replan();
            check_rules(planner.fleet(), &planner.plan(), &outcome);
            check_moves(&outcome);
            prop_assert_eq!(&anew.replan(), &outcome);
            prop_assert_eq!(anew.plan(), planner.plan());
        }
    }

    #[test]
    fn another_look_at_the_fleet_comes_to_what_reading_it_anew_does(seed: u64, steps in 1_usize..6) {
        let mut noise = Noise(seed);
        let mut planner = Planner::new(rich_fleet(&mut noise), &Plan::default()).unwrap();
        planner.replan();
        for _ in 0..steps {
            let mut changed = planner.clone();
            for _ in 0..noise.below(4) {
                changed.apply(event(&mut noise, changed.fleet())).unwrap();
            }
            let mut look = changed.fleet().clone();
            look.nodes.reverse();
            let mut anew = Planner::new(look.clone(), &planner.plan()).unwrap();
            planner.follow(look).unwrap();
            prop_assert_eq!(planner.fleet(), changed.fleet());
            prop_assert_eq!(planner.replan(), anew.replan());
            prop_assert_eq!(planner.plan(), anew.plan());
        }
    }

    #[test]
    fn the_order_in_which_a_fleet_is_written_down_does_not_matter(seed: u64) {
        let fleet = rich_fleet(&mut Noise(seed));
        let mut turned = fleet.clone();
        turned.nodes.reverse();
        turned.edges.reverse();
        turned.nodes.iter_mut().for_each(|node| node.subjects.reverse());
        let (mut one, mut other) =
            (Planner::new(fleet, &Plan::default()).unwrap(), Planner::new(turned, &Plan::default()).unwrap());
        prop_assert_eq!(one.replan(), other.replan());
        prop_assert_eq!(one.plan(), other.plan());
    }

    #[test]
    fn a_plan_settles_when_nothing_happens(seed: u64) {
        let mut planner = Planner::new(rich_fleet(&mut Noise(seed)), &Plan::default()).unwrap();
        planner.replan();
        let settled = (0..20).any(|_| planner.replan().moves.is_empty());
        prop_assert!(settled);
    }

    #[test]
    fn explanations_agree_with_the_plan(seed: u64) {
        let mut planner = Planner::new(rich_fleet(&mut Noise(seed)), &Plan::default()).unwrap();
        let outcome = planner.replan();
        let plan = planner.plan();
        for (subject, placement) in &plan.subjects {
            let told = persona_core::plan::explain(planner.fleet().clone(), &plan, subject).unwrap().unwrap();
            prop_assert_eq!(told.considered.len(), planner.fleet().edges.len());
            let chosen: Vec<_> = told.considered.iter().filter(|edge| edge.chosen).collect();
            prop_assert_eq!(chosen.len(), 1);
            prop_assert!(chosen[0].refusals.is_empty(), "{:?}", chosen[0].refusals);
            prop_assert_eq!((&chosen[0].edge, chosen[0].persona.as_ref()), (&placement.edge, Some(&placement.persona)));
            let score = chosen[0].score() - chosen[0].scores["stickiness"];
            prop_assert!((score - placement.score).abs() < 1e-6, "{} {}", score, placement.score);
        }
        for refusal in &outcome.refusals {
            let told = planner.explain(&refusal.subject).unwrap();
            prop_assert!(told.considered.iter().all(|edge| !edge.refusals.is_empty()), "{:?}", told);
            prop_assert!(refusal.nearest.is_some());
        }
    }
}
