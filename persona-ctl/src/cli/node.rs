//! `persona-ctl node`: hosts that run the agent.

use clap::Subcommand;
use comfy_table::Cell;
use persona_core::ids::NodeName;
use persona_core::wire::agent::{Counters, EdgeHealth};
use persona_core::wire::api::NodeView;
use persona_core::wire::tunnel::{FarEndReport, TunnelReport};

use super::Session;
use super::labels::{self, LabelArgs, SelectArgs};
use super::print::{ago, bytes, generation_cell, listed, now_ms, show_done, state_cell, table_of};
use super::removal::{DeleteArgs, DrainArgs};
use super::wait;

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List nodes.
    List(SelectArgs),
    /// Show a node: what it sees of the edges, and what its data plane counted.
    Get {
        /// The node.
        name: NodeName,
    },
    /// Have a node take nobody new; who wears something there goes on until it leaves.
    Drain {
        /// The node.
        name: NodeName,
        #[command(flatten)]
        args: DrainArgs,
    },
    /// Let a node take subjects again.
    Undrain {
        /// The node.
        name: NodeName,
    },
    /// Bind labels to a node and its workloads, or show by whose word it has which.
    Label {
        /// The node.
        name: NodeName,
        #[command(flatten)]
        args: LabelArgs,
    },
    /// Revoke the key of a node: it is out at once and takes nobody new. Delete it to take back what it holds.
    Revoke {
        /// The node.
        name: NodeName,
        /// Why; it is kept in the event log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Delete a node: its edges then forget what it held.
    Delete {
        /// The node.
        name: NodeName,
        #[command(flatten)]
        args: DeleteArgs,
    },
}

impl NodeCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::List(args) => {
                let all = session.client.nodes_with(args.selector.as_ref()).await?;
                session.output.show(&all, |nodes| list(nodes))
            }
            Self::Get { name } => session.output.show(&session.client.node(&name).await?, tell),
            Self::Drain { name, args } => session.output.show(&drain(session, &name, &args).await?, show_one),
            Self::Undrain { name } => session.output.show(&session.client.drain_node(&name, false).await?, show_one),
            Self::Label { name, args } => args.run(session, &format!("node/{name}")).await,
            Self::Revoke { name, reason } => {
                session.client.revoke_node(&name, &reason).await?;
                show_done(session.output, "node", &name, "revoked")
            }
            Self::Delete { name, args } => {
                session.client.delete_node(&name, args.forced()).await?;
                show_done(session.output, "node", &name, "deleted")
            }
        }
    }
}

async fn drain(session: &Session, name: &NodeName, args: &DrainArgs) -> anyhow::Result<NodeView> {
    let view = session.client.drain_node(name, true).await?;
    let Some(limit) = args.limit() else { return Ok(view) };
    let progress =
        |node: &NodeView| format!("{} leases with {} live ports left", node.lease_count, node.live_slot_count);
    let ask = async || session.client.node(name).await;
    wait::until_empty(&format!("node {name}"), limit, ask, |node| node.lease_count == 0, progress).await
}

fn show_one(node: &NodeView) -> String {
    list(std::slice::from_ref(node))
}

fn list(nodes: &[NodeView]) -> String {
    let now = now_ms();
    let rows = nodes.iter().map(|node| {
        [
            Cell::new(&node.name),
            state_cell(match node {
                NodeView { up: false, .. } => "down",
                NodeView { cut_off: true, .. } => "cut off",
                NodeView { draining: true, .. } => "draining",
                _ => "up",
            }),
            Cell::new(node.address),
            generation_cell(node.desired, node.applied, node.rejected.is_some()),
            Cell::new(node.lease_count),
            Cell::new(listed(&node.capabilities)),
            Cell::new(ago(node.seen_ms, now)),
            Cell::new(&node.version),
        ]
    });
    let header = ["NODE", "STATE", "ADDRESS", "GENERATION", "LEASES", "WANTS", "SEEN", "VERSION"];
    table_of(&header, rows, "no nodes; persona-ctl token create --role node lets one join")
}

fn tell(node: &NodeView) -> String {
    let labels = labels::line(&node.labels, &node.bound_labels);
    let rejected = node.rejected.as_ref().map(|no| format!("rejected {}: {}\n", no.generation, no.reason));
    format!(
        "{}\n\nlabels: {labels}\n{}{}\n{}\n\n{}",
        list(std::slice::from_ref(node)),
        rejected.unwrap_or_default(),
        tunnel_text(&node.tunnel),
        health_table(&node.edges),
        counters_text(&node.counters)
    )
}

/// Microseconds as milliseconds.
pub(super) fn micros(value: Option<u32>) -> String {
    value.map_or_else(|| "-".to_owned(), |us| format!("{:.2} ms", f64::from(us) / 1e3))
}

/// What probes to edges say.
pub(super) fn health_table(edges: &[EdgeHealth]) -> String {
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

/// What a node or an edge says of its encrypted tunnels.
pub(super) fn tunnel_text(tunnel: &TunnelReport) -> String {
    let by = tunnel.implementation.as_deref().unwrap_or("no device yet");
    let own = match (&tunnel.end, &tunnel.reason) {
        (Some(end), None) => format!("{} on UDP {} ({by})", end.public_key, end.port),
        (Some(end), Some(reason)) => format!("{} on UDP {} ({by}): {reason}", end.public_key, end.port),
        (None, reason) => format!("none: {}", reason.as_deref().unwrap_or("it has not said why")),
    };
    let next = tunnel.end.as_ref().and_then(|end| end.next_key.as_ref());
    let key = match (tunnel.key_age_secs, next) {
        (_, Some(next)) => format!("  its key is about to change to {next}; both are accepted\n"),
        (Some(secs), None) => format!("  its key was made {} h before its last report\n", secs / 3_600),
        (None, None) => String::new(),
    };
    let far_end = |end: &FarEndReport| match end.handshake_age_secs {
        Some(secs) => format!("  {}: last handshake {secs} s before its last report\n", end.address),
        None => format!("  {}: no handshake yet\n", end.address),
    };
    format!("encrypted tunnel: {own}\n{key}{}", tunnel.far_ends.iter().map(far_end).collect::<String>())
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
