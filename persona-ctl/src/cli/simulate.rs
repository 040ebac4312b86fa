//! `persona-ctl simulate`: what a fleet's plan would be, and what would become of it. Nothing moves. The fleet is a file's, or
//! the manager's as it stands.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use persona_core::document::{Document, Format};
use persona_core::ids::{EdgeName, NodeName, SubjectId};
use persona_core::plan::{
    Event, Fleet, FleetError, FleetNode, Outcome, Plan, Planner, Service, SubjectExplanation, WavePlan, parse_fleet,
    parse_plan, waves,
};
use persona_core::wire::api::Apply;
use serde::Serialize;

use super::documents::{read_files, read_text};
use super::simulate_changes::changed;
use super::simulate_documents::tell as tell_documents;
use super::simulate_table::tell;
use super::{Output, Session};

/// Nodes that can be added in one run.
const ADDED_COUNT_MAX: u32 = 1_000_000;

/// Say what a fleet's plan would be: what would move, what would be refused, how full each edge would get.
#[derive(Debug, Args)]
#[command(
    after_help = "A fleet is YAML, JSON or TOML with personas, edges, nodes, policies; docs/planning.md has all keys and an example.\nWithout -f the manager is asked for the fleet and its plan as they stand. A file without --plan is planned from nothing first, and events are planned from there.\nThe lists of --changes are laid over the fleet's: an entry changes the keys that it has of the entry of its name, or is new.\n\nExamples:\n  persona-ctl simulate --kill fra1\n  persona-ctl simulate --changes policies.yaml --explain workload/n1/web\n  persona-ctl simulate -f eu.yaml             documents: who would wear something else, how full pools and edges would get\n  persona-ctl simulate -f fleet.yaml\n  persona-ctl simulate -f fleet.yaml --kill fra1 --explain workload/berlin/crm\n  persona-ctl simulate -f fleet.yaml --save-plan plan.json\n  persona-ctl simulate -f changed.yaml --plan plan.json -o json"
)]
pub(super) struct SimulateArgs {
    /// A fleet, or documents as `persona apply` takes them, which are tried on the manager's; `-` is a fleet on standard input. Without
    /// it: the manager's fleet.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The plan that the fleet has now, as --save-plan writes it.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Lay this over the fleet: personas, edges, nodes, policies, contents, planning as in a fleet's file.
    #[arg(long, value_name = "FILE")]
    changes: Option<PathBuf>,
    /// Let an edge die; may be given several times.
    #[arg(long = "kill", value_name = "EDGE")]
    kills: Vec<EdgeName>,
    /// Empty an edge; may be given several times.
    #[arg(long = "drain", value_name = "EDGE")]
    drains: Vec<EdgeName>,
    /// Let an edge that is out of service serve; may be given several times.
    #[arg(long = "restore", value_name = "EDGE")]
    restores: Vec<EdgeName>,
    /// Let so many nodes join, each like one of the fleet's.
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=i64::from(ADDED_COUNT_MAX)))]
    add_nodes: u32,
    /// Explain a subject's place: every edge, each filter's refusal, each score.
    #[arg(long, value_name = "SUBJECT")]
    explain: Option<SubjectId>,
    /// Write the plan that comes out to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    save_plan: Option<PathBuf>,
}

/// A fleet or a plan with mistakes; a line each.
#[derive(Debug)]
pub(super) struct RefusedFleet {
    pub(super) file: String,
    pub(super) errors: Vec<FleetError>,
}

impl fmt::Display for RefusedFleet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len();
        write!(formatter, "{count} {} in {}", if count == 1 { "mistake" } else { "mistakes" }, self.file)?;
        self.errors.iter().try_for_each(|error| write!(formatter, "\n  {}: {error}", self.file))
    }
}

impl std::error::Error for RefusedFleet {}

/// What would happen.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Simulation {
    pub(super) node_count: usize,
    pub(super) subject_count: usize,
    pub(super) edge_count: usize,
    /// What was supposed to happen.
    pub(super) events: Vec<String>,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
    #[serde(flatten)]
    pub(super) waves: WavePlan,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explanation: Option<SubjectExplanation>,
}

/// A fleet, and where it is from.
struct Given {
    fleet: Fleet,
    plan: Option<Plan>,
    name: String,
}

impl SimulateArgs {
    /// Whether a file has everything: a fleet's, not one with documents for the manager's.
    pub(super) fn is_local(&self) -> bool {
        self.file.as_ref().is_some_and(|file| !has_documents(file))
    }

    pub(super) fn run_local(self, output: Output) -> anyhow::Result<()> {
        output.show(&self.simulate(self.read()?)?, tell)
    }

    /// On the manager's fleet.
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        if let Some(file) = &self.file {
            self.check_alone()?;
            let documents = read_files(std::slice::from_ref(file))?;
            let apply = Apply { documents: documents.iter().map(Document::to_json).collect() };
            return session.output.show(&session.client.simulate(&apply).await?, tell_documents);
        }
        let (fleet, current) = (session.client.fleet().await?, session.client.plan().await?);
        let plan = self.plan.as_deref().map(read_plan).transpose()?.unwrap_or(current.plan);
        let given = Given { fleet, plan: Some(plan), name: "the manager's fleet".to_owned() };
        session.output.show(&self.simulate(given)?, tell)
    }

    /// What happens to edges and nodes is planned; what documents change is decided by the manager. One at a time.
    fn check_alone(&self) -> anyhow::Result<()> {
        let events = [&self.kills, &self.drains, &self.restores].iter().any(|edges| !edges.is_empty());
        let others =
            self.plan.is_some() || self.changes.is_some() || self.explain.is_some() || self.save_plan.is_some();
        if events || others || self.add_nodes > 0 {
            anyhow::bail!(
                "documents are tried alone: leave out --kill, --drain, --restore, --add-nodes, --plan, --changes, --explain and --save-plan"
            );
        }
        Ok(())
    }

    fn read(&self) -> anyhow::Result<Given> {
        let path = self.file.as_ref().expect("`is_local` was asked");
        let (text, name) = read_text(path)?;
        let fleet = parse_fleet(&text, Format::from_path(path));
        let fleet = fleet.map_err(|errors| RefusedFleet { file: name.clone(), errors })?;
        Ok(Given { fleet, plan: self.plan.as_deref().map(read_plan).transpose()?, name })
    }

    fn simulate(&self, given: Given) -> anyhow::Result<Simulation> {
        let Given { fleet, plan, name } = given;
        let refused = |errors| RefusedFleet { file: name.clone(), errors };
        let has_plan = plan.is_some();
        let changed = self.changes.as_deref().map(|path| changed(&fleet, path)).transpose()?;
        let events = self.events(changed.as_ref().unwrap_or(&fleet))?;
        let mut planner = Planner::new(fleet, &plan.unwrap_or_default()).map_err(refused)?;
        // What happens is planned from what was there before it.
        let first = (!has_plan).then(|| planner.replan());
        let told = self.told();
        if let Some(changed) = changed {
            planner.follow(changed).map_err(refused)?;
        }
        for event in events {
            planner.apply(event).map_err(refused)?;
        }
        let outcome = match first {
            Some(first) if told.is_empty() => first,
            _ => planner.replan(),
        };
        let explanation = self
            .explain
            .as_ref()
            .map(|subject| planner.explain(subject).with_context(|| format!("{name} has no subject {subject}")));
        let explanation = explanation.transpose()?;
        if let Some(path) = &self.save_plan {
            save_plan(path, &planner.plan())?;
        }
        let fleet = planner.fleet();
        Ok(Simulation {
            node_count: fleet.nodes.len(),
            subject_count: fleet.nodes.iter().map(|node| node.subjects.len()).sum(),
            edge_count: fleet.edges.len(),
            events: told,
            waves: waves(&planner, &outcome),
            outcome,
            explanation,
        })
    }

    fn events(&self, fleet: &Fleet) -> anyhow::Result<Vec<Event>> {
        let service = |edges: &[EdgeName], service: Service| {
            edges.iter().map(|edge| Event::Service(edge.clone(), service)).collect::<Vec<_>>()
        };
        let mut events = service(&self.kills, Service::Down);
        events.extend(service(&self.drains, Service::Draining));
        events.extend(service(&self.restores, Service::Serving));
        events.extend(added_nodes(fleet, self.add_nodes)?.into_iter().map(|node| Event::Node(Box::new(node))));
        Ok(events)
    }

    fn told(&self) -> Vec<String> {
        let of = |edges: &[EdgeName], what: &str| edges.iter().map(|edge| format!("{edge} {what}")).collect::<Vec<_>>();
        let changes = self.changes.iter().map(|path| format!("{} is laid over it", path.display()));
        let mut told = of(&self.kills, "dies");
        told.extend(changes);
        told.extend(of(&self.drains, "drains"));
        told.extend(of(&self.restores, "serves"));
        told.extend((self.add_nodes > 0).then(|| format!("{} nodes join", self.add_nodes)));
        told
    }
}

/// Whether a file has documents, such as `persona apply` takes. Standard input is taken for a fleet.
fn has_documents(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let keys = text.lines().map(|line| line.trim_start_matches([' ', '{', '[', '-', '"']));
    path != Path::new("-") && keys.into_iter().any(|key| key.starts_with("apiVersion"))
}

fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let (text, file) = read_text(path)?;
    Ok(parse_plan(&text, Format::from_path(path)).map_err(|errors| RefusedFleet { file, errors })?)
}

fn save_plan(path: &Path, plan: &Plan) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(plan)?;
    std::fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))
}

/// New nodes, each like one of the fleet's in turn.
fn added_nodes(fleet: &Fleet, count: u32) -> anyhow::Result<Vec<FleetNode>> {
    if count > 0 && fleet.nodes.is_empty() {
        anyhow::bail!(
            "the fleet has no node that new ones could be like: write one, with the demand that each shall have"
        );
    }
    let taken: std::collections::HashSet<&str> = fleet.nodes.iter().map(|node| node.name.as_str()).collect();
    let names = (1_u64..).map(|number| format!("added-{number}")).filter(|name| !taken.contains(name.as_str()));
    let like = fleet.nodes.iter().cycle();
    let added = names.zip(like).take(count as usize).map(|(name, like)| {
        let name: NodeName = name.parse().expect("letters, a hyphen and digits are a name");
        FleetNode { name, ..like.clone() }
    });
    Ok(added.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../persona-core/tests/fleets/three-cities.yaml");

    fn args(file: &Path) -> SimulateArgs {
        SimulateArgs {
            file: Some(file.to_owned()),
            plan: None,
            changes: None,
            kills: Vec::new(),
            drains: Vec::new(),
            restores: Vec::new(),
            add_nodes: 0,
            explain: None,
            save_plan: None,
        }
    }

    fn simulated(args: &SimulateArgs) -> anyhow::Result<Simulation> {
        args.simulate(args.read()?)
    }

    #[test]
    fn what_is_laid_over_a_fleet_changes_it() {
        let directory = tempfile::tempdir().unwrap();
        let changes = directory.path().join("changes.yaml");
        let cases = [
            ("{edges: [{name: fra1, service: down}]}", Ok("fra1")),
            ("{policies: [{name: none, rule: {deny: {edges: [par1]}}}]}", Ok("par1")),
            ("{edges: [{name: fra1, capacity: {leases: 0}}]}", Err("0 is no capacity")),
            ("{edgs: []}", Err("did you mean edges?")),
            ("{edges: [{service: down}]}", Err("edges[0].name is missing")),
        ];
        for (text, expected) in cases {
            std::fs::write(&changes, text).unwrap();
            let args = SimulateArgs { changes: Some(changes.clone()), ..args(Path::new(FLEET)) };
            match (simulated(&args), expected) {
                (Ok(simulation), Ok(edge)) => {
                    let there = simulation.outcome.edges.iter().find(|it| it.edge.as_str() == edge).unwrap();
                    assert!(there.subjects == 0 && there.subjects_before > 0, "{text}: {there:?}");
                }
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{text}: {error}"),
                (outcome, _) => panic!("{text}: {:?}", outcome.map(|it| it.outcome)),
            }
        }
    }

    #[test]
    fn documents_are_told_from_a_fleet() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f.yaml");
        for (text, expected) in [
            ("apiVersion: persona/v1\nkind: Persona\n", true),
            ("# a comment\n---\n{ apiVersion: persona/v1 }\n", true),
            ("[{ \"apiVersion\": \"persona/v1\" }]", true),
            ("personas: []\nedges: []\n", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(args(&file).is_local(), !expected, "{text}");
        }
        assert!(args(Path::new(FLEET)).is_local() && args(Path::new("-")).is_local());
        let mixed = SimulateArgs { kills: vec!["fra1".parse().unwrap()], ..args(&file) };
        assert!(mixed.check_alone().unwrap_err().to_string().contains("tried alone"));
    }

    #[test]
    fn the_example_is_planned_and_an_edge_dies() {
        let fleet = Path::new(FLEET);
        let simulation = simulated(&args(fleet)).unwrap();
        assert_eq!((simulation.subject_count, simulation.outcome.refusals.len()), (8, 0));
        let explain = Some("workload/berlin/crm".parse().unwrap());
        let killed = simulated(&SimulateArgs { kills: vec!["par1".parse().unwrap()], explain, ..args(fleet) }).unwrap();
        assert!(killed.outcome.moves.iter().all(|it| it.to.as_str() != "par1"));
        let told = tell(&killed);
        assert!(told.contains("par1 dies") && told.contains("it is down"), "{told}");
        let json = serde_json::to_value(&killed).unwrap();
        assert!(json["explanation"]["considered"].as_array().is_some_and(|edges| edges.len() == 4), "{json}");
    }

    #[test]
    fn a_saved_plan_is_where_the_next_run_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let saved = directory.path().join("plan.json");
        simulated(&SimulateArgs { save_plan: Some(saved.clone()), ..args(Path::new(FLEET)) }).unwrap();
        let again = simulated(&SimulateArgs { plan: Some(saved.clone()), ..args(Path::new(FLEET)) }).unwrap();
        assert!(again.outcome.moves.is_empty(), "{:?}", again.outcome.moves);
        let more = simulated(&SimulateArgs { plan: Some(saved), add_nodes: 5, ..args(Path::new(FLEET)) }).unwrap();
        assert_eq!((more.node_count, more.outcome.moves.iter().filter(|it| it.from.is_none()).count() > 0), (8, true));
    }

    #[test]
    fn mistakes_name_the_file_the_path_and_what_would_be_valid() {
        let directory = tempfile::tempdir().unwrap();
        let cases = [
            ("edges: [", "not valid YAML"),
            ("{personas: [], edges: [], nodes: [], polices: []}", "did you mean policies?"),
            (
                "{personas: [], edges: [{name: a, group: g, capacity: {rate: 5}}], nodes: []}",
                "edges[0].capacity.rate: invalid type",
            ),
            (
                "{personas: [], edges: [{name: a, group: g, capacity: {leases: 0}}], nodes: []}",
                "edges[0].capacity: 0 is no capacity",
            ),
            (
                "{personas: [{name: eu, groups: [g]}], edges: [], nodes: [{name: n1, subjects: [{personas: [eo]}]}]}",
                "nodes[0].subjects[0].personas[0]: there is no persona eo; did you mean eu?",
            ),
        ];
        for (index, (text, expected)) in cases.into_iter().enumerate() {
            let path = directory.path().join(format!("{index}.yaml"));
            std::fs::write(&path, text).unwrap();
            let error = simulated(&args(&path)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(&format!("{index}.yaml: ")), "{error}");
        }
        let edge = SimulateArgs { kills: vec!["fra9".parse().unwrap()], ..args(Path::new(FLEET)) };
        let error = simulated(&edge).unwrap_err().to_string();
        assert!(error.contains("no edge fra9; did you mean fra1?"), "{error}");
    }
}
