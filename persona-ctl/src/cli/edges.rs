//! `persona-ctl edge list|get`: devices that own egress addresses, as the manager sees them.

use clap::Subcommand;
use comfy_table::Cell;
use persona_core::ids::EdgeName;
use persona_core::wire::api::EdgeView;

use super::Session;
use super::node::counters_text;
use super::print::{ago, generation_cell, listed, now_ms, state_cell, table_of};

/// What to ask about edges.
#[derive(Debug, Subcommand)]
pub(super) enum EdgeCommand {
    /// List edges.
    List,
    /// Show an edge: what it owns, and what its data plane counted.
    Get {
        /// The edge.
        name: EdgeName,
    },
}

impl EdgeCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::List => session.output.show(&session.client.edges().await?, |edges| list(edges)),
            Self::Get { name } => session.output.show(&session.client.edge(&name).await?, tell),
        }
    }
}

fn list(edges: &[EdgeView]) -> String {
    let now = now_ms();
    let rows = edges.iter().map(|edge| {
        [
            Cell::new(&edge.name),
            Cell::new(edge.number),
            Cell::new(&edge.group),
            state_cell(&edge.state),
            Cell::new(edge.address),
            generation_cell(edge.desired, edge.applied, edge.rejected.is_some()),
            Cell::new(edge.lease_count),
            Cell::new(edge.owned.len()),
            Cell::new(ago(edge.seen_ms, now)),
        ]
    });
    let header = ["EDGE", "NUMBER", "GROUP", "STATE", "ADDRESS", "GENERATION", "LEASES", "OWNS", "SEEN"];
    table_of(&header, rows, "no edges; persona-ctl token create --role edge lets one join")
}

fn tell(edge: &EdgeView) -> String {
    let labels = listed(edge.labels.iter().map(|(key, value)| format!("{key}={value}")));
    let rejected = edge.rejected.as_ref().map(|no| format!("\nrejected {}: {}", no.generation, no.reason));
    format!(
        "{}\n\nstate: {} ({})\noffers: {}\nlabels: {labels}\nanswers ARP for: {}{}\n\n{}",
        list(std::slice::from_ref(edge)),
        edge.state,
        edge.reason,
        listed(&edge.capabilities),
        listed(&edge.owned),
        rejected.unwrap_or_default(),
        counters_text(&edge.counters)
    )
}
