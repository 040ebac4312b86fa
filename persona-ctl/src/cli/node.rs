//! `persona-ctl node`: hosts that run the agent.

use clap::Subcommand;
use comfy_table::Cell;
use persona_core::ids::NodeName;
use persona_core::wire::agent::{Counters, EdgeHealth};
use persona_core::wire::api::NodeView;

use super::Session;
use super::print::{ago, bytes, generation_cell, listed, now_ms, state_cell, table_of};

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List nodes.
    List,
    /// Show a node: what it sees of the edges, and what its data plane counted.
    Get {
        /// The node.
        name: NodeName,
    },
}

impl NodeCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::List => session.output.show(&session.client.nodes().await?, |nodes| list(nodes)),
            Self::Get { name } => session.output.show(&session.client.node(&name).await?, tell),
        }
    }
}

fn list(nodes: &[NodeView]) -> String {
    let now = now_ms();
    let rows = nodes.iter().map(|node| {
        [
            Cell::new(&node.name),
            state_cell(if node.up { "up" } else { "down" }),
            Cell::new(node.address),
            generation_cell(node.desired, node.applied, node.rejected.is_some()),
            Cell::new(listed(&node.capabilities)),
            Cell::new(ago(node.seen_ms, now)),
            Cell::new(&node.version),
        ]
    });
    let header = ["NODE", "STATE", "ADDRESS", "GENERATION", "WANTS", "SEEN", "VERSION"];
    table_of(&header, rows, "no nodes; persona-ctl token create --role node lets one join")
}

fn tell(node: &NodeView) -> String {
    let labels = listed(node.labels.iter().map(|(key, value)| format!("{key}={value}")));
    let rejected = node.rejected.as_ref().map(|no| format!("rejected {}: {}\n", no.generation, no.reason));
    format!(
        "{}\n\nlabels: {labels}\n{}\n{}\n\n{}",
        list(std::slice::from_ref(node)),
        rejected.unwrap_or_default(),
        health_table(&node.edges),
        counters_text(&node.counters)
    )
}

/// What probes to edges say.
pub(super) fn health_table(edges: &[EdgeHealth]) -> String {
    let micros =
        |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |us| format!("{:.2} ms", f64::from(us) / 1e3));
    let rows = edges.iter().map(|edge| {
        [
            Cell::new(&edge.edge),
            state_cell(if edge.alive { "alive" } else { "down" }),
            Cell::new(micros(edge.rtt_us)),
            Cell::new(micros(edge.jitter_us)),
            Cell::new(format!("{:.1}%", edge.loss * 100.0)),
            Cell::new(edge.generation),
        ]
    });
    table_of(&["PROBED EDGE", "STATE", "RTT", "JITTER", "LOSS", "LEASES AS OF"], rows, "no edges probed")
}

/// What a data plane counted: traffic per subject, and drops by reason.
pub(super) fn counters_text(counters: &Counters) -> String {
    let subjects = counters.subjects.iter().map(|of| {
        let traffic = of.traffic;
        [
            of.subject.to_string(),
            traffic.egress_packets.to_string(),
            bytes(traffic.egress_bytes),
            traffic.ingress_packets.to_string(),
            bytes(traffic.ingress_bytes),
        ]
    });
    let header = ["SUBJECT", "PACKETS OUT", "BYTES OUT", "PACKETS IN", "BYTES IN"];
    let drops = counters.drops.iter().filter(|(_, count)| **count > 0);
    let drops = drops.map(|(reason, count)| [reason.clone(), count.to_string()]);
    format!(
        "{}\n\n{}",
        table_of(&header, subjects, "no traffic counted per subject"),
        table_of(&["DROP REASON", "PACKETS"], drops, "no drops")
    )
}
