//! What is measured, in the order in which the report has it.

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use super::instances::{agent, apply, evaluate, forecast};
use super::row::Row;
use super::{
    control, edge_cost, edge_rate, end_to_end, gateway, kills, new_flows, node_cost, node_personas, policing, rates,
    rates_many, wireguard,
};
use crate::ledger::Ledger;

/// Rounds of what takes long, in a run of everything.
const LONG_ROUND_COUNT_WHOLE: u32 = 3;

/// What a measure is given.
pub struct Run<'a> {
    /// How often everything is measured.
    pub rounds: u32,
    /// Whether measures were named: what takes its time is measured in full then.
    pub is_subset: bool,
    /// What has to be undone.
    pub ledger: &'a Ledger,
    /// How far the run is.
    pub progress: &'a ProgressBar,
}

impl Run<'_> {
    /// How often something is measured that takes long: less in a run of everything.
    pub fn rounds_of_a_long_measure(&self) -> u32 {
        if self.is_subset { self.rounds } else { self.rounds.min(LONG_ROUND_COUNT_WHOLE) }
    }

    /// Says what is being done.
    pub fn say(&self, what: &str) {
        self.progress.set_message(what.to_owned());
    }

    /// A round is done.
    pub fn step(&self) {
        self.progress.inc(1);
    }
}

/// One measure.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Its name, which its rows begin with.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    measure: fn(&Run<'_>) -> Result<Vec<Row>>,
}

/// What a benchmark is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// Programs, rates and whole paths.
    Dataplane,
    /// Criteria, limits, and the agent that keeps them.
    Instances,
    /// The manager under a fleet.
    Control,
}

impl Subject {
    /// Its name, and that of its report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dataplane => "dataplane",
            Self::Instances => "instances",
            Self::Control => "control",
        }
    }

    fn all(self) -> &'static [Measure] {
        match self {
            Self::Dataplane => &DATAPLANE,
            Self::Instances => &INSTANCES,
            Self::Control => &CONTROL,
        }
    }
}

const INSTANCES: [Measure; 4] = [
    Measure { name: "evaluate", about: "criteria of 100,000 machines", measure: evaluate::measure },
    Measure { name: "apply", about: "six limits of a running container", measure: apply::measure },
    Measure { name: "agent", about: "the agent with 200 workloads", measure: agent::measure },
    Measure { name: "forecast", about: "forecasts and limits on public traces", measure: forecast::measure },
];

const CONTROL: [Measure; 4] = [
    Measure { name: "thousand", about: "switches and reads in a fleet of 1,000 nodes", measure: control::thousand },
    Measure { name: "leases", about: "leases for 49,152 workloads at once", measure: control::leases },
    Measure { name: "large", about: "as many nodes as may be connected", measure: control::large },
    Measure { name: "planner", about: "100,000 nodes over 1,000 edges", measure: control::planner::measure },
];

const DATAPLANE: [Measure; 15] = [
    Measure { name: "edge-out", about: "an edge's program, inside to outside", measure: edge_cost::outward },
    Measure { name: "edge-in", about: "an edge's program, outside to inside", measure: edge_cost::inward },
    Measure { name: "node-out", about: "a node's program and its whole way", measure: node_cost::measure },
    Measure { name: "node-personas", about: "a node with ten thousand personas", measure: node_personas::measure },
    Measure { name: "new-flows", about: "new flows a second on one core", measure: new_flows::measure },
    Measure { name: "tcp", about: "TCP goodput through four namespaces", measure: end_to_end::tcp },
    Measure { name: "udp", about: "64-byte UDP through four namespaces", measure: end_to_end::udp },
    Measure { name: "rtt", about: "the round trip of an idle path", measure: end_to_end::rtt },
    Measure { name: "rates", about: "how exactly rates are held", measure: rates::measure },
    Measure {
        name: "rates-many",
        about: "a thousand subjects held at once, and ten thousand",
        measure: rates_many::measure,
    },
    Measure { name: "policing", about: "the edge's safety net behind queues", measure: policing::measure },
    Measure { name: "edge-rate", about: "an edge's packets a second, live", measure: edge_rate::measure },
    Measure { name: "gateway", about: "a service's TCP, datagrams and connections", measure: gateway::measure },
    Measure { name: "wireguard", about: "TCP goodput of encrypted personas", measure: wireguard::measure },
    Measure {
        name: "kills",
        about: "edges that die under 100 connections and 10,000 packets/s",
        measure: kills::measure,
    },
];

impl Measure {
    /// Measures.
    pub fn run(&self, run: &Run<'_>) -> Result<Vec<Row>> {
        (self.measure)(run).with_context(|| format!("{} ({})", self.name, self.about))
    }
}

/// The measures of these names; all where there is none.
pub fn chosen(subject: Subject, names: &[String]) -> Result<Vec<Measure>> {
    let all = subject.all();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|measure| measure.name == name.as_str())) {
        let known = all.iter().map(|measure| measure.name).collect::<Vec<_>>().join(", ");
        bail!("no measure is called {unknown}; there are: {known}");
    }
    let is_chosen = |measure: &Measure| names.is_empty() || names.iter().any(|name| name == measure.name);
    Ok(all.iter().filter(|measure| is_chosen(measure)).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_in_the_reports_order_and_strangers_are_refused() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let chosen_names = |wanted: &[&str]| -> Vec<&str> {
            chosen(Subject::Dataplane, &names(wanted)).unwrap().iter().map(|measure| measure.name).collect()
        };
        assert_eq!(chosen_names(&["edge-in", "edge-out"]), ["edge-out", "edge-in"]);
        assert_eq!(chosen_names(&[]).len(), DATAPLANE.len());
        let refusal = chosen(Subject::Dataplane, &names(&["edge"])).unwrap_err().to_string();
        assert!(refusal.contains("edge-out"), "{refusal}");
    }
}
