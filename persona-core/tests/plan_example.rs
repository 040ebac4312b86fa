//! The example of the documentation, followed by hand: who goes where, what refuses what, and what explanations say.

mod plan_world;

use persona_core::document::Format;
use persona_core::plan::{Event, Filter, Plan, Planner, Service, parse_fleet};
use plan_world::example;

fn planner() -> Planner {
    let mut planner = Planner::new(example(), &Plan::default()).expect("the example is right");
    let outcome = planner.replan();
    assert!(outcome.refusals.is_empty() && outcome.waiting.is_empty(), "{outcome:?}");
    planner
}

fn edge_of(plan: &Plan, subject: &str) -> String {
    plan.subjects[&subject.parse().expect("the example is right")].edge.to_string()
}

#[test]
fn policies_and_capabilities_hold_in_the_example() {
    let plan = planner().plan();
    assert_ne!(edge_of(&plan, "workload/berlin/crm"), "tok1", "personal data stays in Germany and France");
    assert_ne!(edge_of(&plan, "workload/berlin/crm-test"), "fra1", "no tests on gold");
    assert_ne!(edge_of(&plan, "workload/berlin/dns-a"), edge_of(&plan, "workload/berlin/dns-b"), "resolvers are apart");
    assert_ne!(edge_of(&plan, "workload/lyon/phones"), "tok1", "nobody measured that path");
    assert_eq!(edge_of(&plan, "workload/osaka/phones"), "tok1", "the only path that is measured");
    let phones = &plan.subjects[&"workload/lyon/phones".parse().unwrap()];
    let counts: Vec<_> = phones.refused.iter().map(|it| (it.filter, it.count)).collect();
    assert_eq!(counts, [(Filter::Capability, 1), (Filter::Path, 1)]);
}

#[test]
fn a_refusal_says_what_comes_nearest() {
    let mut planner = planner();
    planner.apply(Event::Service("tok1".parse().unwrap(), Service::Down)).unwrap();
    let outcome = planner.replan();
    let phones = "workload/osaka/phones".parse().unwrap();
    let refusal = outcome.refusals.iter().find(|refusal| refusal.subject == phones).expect("nobody else is measured");
    assert_eq!(refusal.from.as_ref().map(|edge| edge.as_str()), Some("tok1"));
    let nearest = refusal.nearest.as_ref().unwrap();
    assert_eq!((nearest.edge.as_str(), &nearest.hints[..]), ("par1", &["let the node probe it".to_owned()][..]));
    let told = planner.explain(&phones).unwrap();
    let tokyo = told.considered.iter().find(|edge| edge.edge.as_str() == "tok1").unwrap();
    assert_eq!(tokyo.refusals[0].filter, Filter::Service);
    let frankfurt = told.considered.iter().find(|edge| edge.edge.as_str() == "fra2").unwrap();
    let filters: Vec<Filter> = frankfurt.refusals.iter().map(|refusal| refusal.filter).collect();
    assert_eq!(filters[..2], [Filter::Capability, Filter::Path], "every refusal is told, not the first alone");
}

#[test]
fn less_is_offered_where_room_is_all_that_lacks() {
    let text = "{personas: [{name: p, groups: [g]}], edges: [{name: a, group: g, capacity: {rate: 100mbit}}],
        nodes: [{name: n1, subjects: [{personas: [p], demand: {rate: 70mbit}}]}, {name: n2, subjects: [{personas: [p], demand: {rate: 60mbit}}]}]}";
    let mut planner = Planner::new(parse_fleet(text, Format::Yaml).unwrap(), &Plan::default()).unwrap();
    let outcome = planner.replan();
    let nearest = outcome.refusals[0].nearest.as_ref().unwrap();
    let demand = nearest.demand.as_ref().map(|demand| demand.rate.to_string());
    assert_eq!((outcome.refusals.len(), nearest.edge.as_str()), (1, "a"));
    assert!(demand == Some("30mbit".into()) || demand == Some("40mbit".into()), "{demand:?}");
    assert!(nearest.hints[0].starts_with("ask for at most "), "{nearest:?}");
}

#[test]
fn a_subject_s_own_content_goes_before_its_persona_s() {
    let text = "{personas: [{name: p, groups: [g], content: cdn}], contents: [{name: cdn}, {name: files}], edges: [
        {name: a, group: g, capacity: {leases: 9}, contentRttMs: {cdn: 5, files: 80}},
        {name: b, group: g, capacity: {leases: 9}, contentRttMs: {cdn: 80, files: 5}}],
        planning: {comfort: 100%}, nodes: [{name: n1, subjects: [{personas: [p]}]}, {name: n2, subjects: [{personas: [p], content: files}]}]}";
    let mut planner = Planner::new(parse_fleet(text, Format::Yaml).unwrap(), &Plan::default()).unwrap();
    planner.replan();
    let plan = planner.plan();
    assert_eq!((edge_of(&plan, "node/n1").as_str(), edge_of(&plan, "node/n2").as_str()), ("a", "b"));
    let told = planner.explain(&"node/n2".parse().unwrap()).unwrap();
    let points = |edge: &str| told.considered.iter().find(|it| it.edge.as_str() == edge).unwrap().scores["content"];
    assert_eq!((points("a"), points("b")), (-8.0, -0.5));
    let errors = parse_fleet(&text.replace("content: files", "content: fils"), Format::Yaml).unwrap_err();
    assert!(errors[0].to_string().contains("did you mean files?"), "{errors:?}");
}
