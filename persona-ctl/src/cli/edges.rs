//! `persona-ctl edge list|get|drain|undrain|maintenance|weight|revoke|delete`: devices that own egress addresses, as the manager sees them.

use clap::{Subcommand, value_parser};
use comfy_table::Cell;
use persona_core::ids::EdgeName;
use persona_core::wire::api::{EdgeProbe, EdgeView};

use super::Session;
use super::labels::{self, LabelArgs, SelectArgs};
use super::node::{counters_text, micros, tunnel_text};
use super::print::{ago, bit_rate, bytes, generation_cell, listed, now_ms, share, show_done, state_cell, table_of};
use super::removal::{DeleteArgs, DrainArgs};
use super::wait;

/// What to do with edges.
#[derive(Debug, Subcommand)]
pub(super) enum EdgeCommand {
    /// List edges.
    List(SelectArgs),
    /// Show an edge: who hears it how well, what it owns, and what its data plane counted.
    Get {
        /// The edge.
        name: EdgeName,
    },
    /// Have new flows avoid an edge; old ones stay.
    Drain {
        /// The edge.
        name: EdgeName,
        #[command(flatten)]
        args: DrainArgs,
    },
    /// Let an edge take new flows again.
    Undrain {
        /// The edge.
        name: EdgeName,
    },
    /// Take an edge into maintenance: it is emptied as if it drained, and may come and go without being held back or reported as down.
    Maintenance {
        /// The edge.
        name: EdgeName,
        /// End it.
        #[arg(long)]
        off: bool,
        /// Why; lists and the event log show it.
        #[arg(long, value_name = "TEXT", conflicts_with = "off")]
        reason: Option<String>,
    },
    /// Set an edge's share of its group's flows, relative to the other edges.
    Weight {
        /// The edge.
        name: EdgeName,
        /// 1 to 1000; 100 where nobody set one.
        #[arg(value_parser = value_parser!(u16).range(1..=1_000))]
        weight: u16,
    },
    /// Bind labels to an edge, or show by whose word it has which.
    Label {
        /// The edge.
        name: EdgeName,
        #[command(flatten)]
        args: LabelArgs,
    },
    /// Revoke the key of an edge: it is out at once and takes nobody new. Delete it to take back what it holds.
    Revoke {
        /// The edge.
        name: EdgeName,
        /// Why; it is kept in the event log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Delete an edge: it forgets its leases first.
    Delete {
        /// The edge.
        name: EdgeName,
        #[command(flatten)]
        args: DeleteArgs,
    },
}

impl EdgeCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::List(args) => {
                let all = session.client.edges_with(args.selector.as_ref()).await?;
                session.output.show(&all, |edges| list(edges))
            }
            Self::Get { name } => session.output.show(&session.client.edge(&name).await?, tell),
            Self::Drain { name, args } => session.output.show(&drain(session, &name, &args).await?, show_one),
            Self::Undrain { name } => session.output.show(&session.client.drain_edge(&name, false).await?, show_one),
            Self::Maintenance { name, off: true, .. } => {
                session.output.show(&session.client.end_maintenance(&name).await?, show_one)
            }
            Self::Maintenance { name, off: false, reason } => {
                session.output.show(&session.client.begin_maintenance(&name, reason).await?, show_one)
            }
            Self::Weight { name, weight } => {
                session.output.show(&session.client.set_edge_weight(&name, weight).await?, show_one)
            }
            Self::Label { name, args } => args.run(session, &format!("edge/{name}")).await,
            Self::Revoke { name, reason } => {
                session.client.revoke_edge(&name, &reason).await?;
                show_done(session.output, "edge", &name, "revoked")
            }
            Self::Delete { name, args } => {
                session.client.delete_edge(&name, args.forced()).await?;
                let outcome =
                    if args.forced().is_some() { "deleted" } else { "forgets its leases and is then deleted" };
                show_done(session.output, "edge", &name, outcome)
            }
        }
    }
}

async fn drain(session: &Session, name: &EdgeName, args: &DrainArgs) -> anyhow::Result<EdgeView> {
    let view = session.client.drain_edge(name, true).await?;
    let Some(limit) = args.limit() else { return Ok(view) };
    let progress = |edge: &EdgeView| format!("{}/s of traffic left", bytes(edge.bits_per_sec / 8));
    let ask = async || session.client.edge(name).await;
    wait::until_empty(&format!("edge {name}"), limit, ask, |edge| edge.bits_per_sec == 0, progress).await
}

fn show_one(edge: &EdgeView) -> String {
    list(std::slice::from_ref(edge))
}

/// What state an edge is in, for a table.
fn state_of(edge: &EdgeView) -> Cell {
    match edge.state.as_str() {
        _ if edge.leaving => state_cell("leaving"),
        _ if edge.maintenance.is_some() => state_cell("maintenance"),
        "up" if edge.draining => state_cell("draining"),
        "up" if !edge.flags.is_empty() => state_cell("flagged"),
        state => state_cell(state),
    }
}

/// The best round-trip time, its jitter, and the worst loss that anybody measures.
fn quality_of(edge: &EdgeView) -> [String; 3] {
    let best = edge.probes.iter().filter(|probe| probe.health.alive).min_by_key(|probe| probe.health.rtt_us);
    let loss = edge.probes.iter().map(|probe| probe.health.loss).reduce(f32::max);
    [
        micros(best.and_then(|probe| probe.health.rtt_us)),
        micros(best.and_then(|probe| probe.health.jitter_us)),
        loss.map_or_else(|| "-".to_owned(), |loss| format!("{:.1}%", loss * 100.0)),
    ]
}

fn list(edges: &[EdgeView]) -> String {
    let now = now_ms();
    let rows = edges.iter().map(|edge| {
        let [rtt, jitter, loss] = quality_of(edge);
        [
            Cell::new(&edge.name),
            Cell::new(edge.number),
            Cell::new(&edge.group),
            state_of(edge),
            Cell::new(edge.weight),
            Cell::new(edge.address),
            generation_cell(edge.desired, edge.applied, edge.rejected.is_some()),
            Cell::new(edge.lease_count),
            Cell::new(bit_rate(edge.bits_per_sec)),
            Cell::new(share(edge.load.fullness)),
            Cell::new(edge.owned.len()),
            Cell::new(rtt),
            Cell::new(jitter),
            Cell::new(loss),
            Cell::new(ago(edge.seen_ms, now)),
        ]
    });
    let header = [
        "EDGE",
        "NUMBER",
        "GROUP",
        "STATE",
        "WEIGHT",
        "ADDRESS",
        "GENERATION",
        "LEASES",
        "RATE",
        "FULL",
        "OWNS",
        "RTT",
        "JITTER",
        "LOSS",
        "SEEN",
    ];
    table_of(&header, rows, "no edges; persona-ctl token create --role edge lets one join")
}

fn tell(edge: &EdgeView) -> String {
    let labels = labels::line(&edge.labels, &edge.bound_labels);
    let announced = edge.announced.as_ref().map(|ranges| format!("\nroutes lead to it for: {}", listed(ranges)));
    let rejected = edge.rejected.as_ref().map(|no| format!("\nrejected {}: {}", no.generation, no.reason));
    let maintenance = edge.maintenance.as_ref().map(|it| {
        let why = it.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("\nin maintenance for {}{why}", ago(it.since_ms, now_ms()).trim_end_matches(" ago"))
    });
    format!(
        "{}\n\nload: {}\nstate: {} ({}){}\nfenced: {}\noffers: {}\nlabels: {labels}\nanswers ARP and ND for: {}{}{}\n{}\n{}\n\n{}",
        list(std::slice::from_ref(edge)),
        load_text(edge),
        edge.state,
        edge.reason,
        maintenance.unwrap_or_default(),
        edge.unfenced.as_ref().map_or_else(|| "yes".to_owned(), |reason| format!("no, {reason}")),
        listed(&edge.capabilities),
        listed(&edge.owned),
        announced.unwrap_or_default(),
        rejected.unwrap_or_default(),
        tunnel_text(&edge.tunnel),
        probes_table(&edge.probes),
        counters_text(&edge.counters)
    )
}

/// What it carries of what it can carry.
fn load_text(edge: &EdgeView) -> String {
    let load = &edge.load;
    let of = |most: Option<String>| most.map(|most| format!(" of {most}")).unwrap_or_default();
    let capacity = edge.capacity.as_ref();
    let bits = of(capacity.map(|it| bit_rate(it.bits_per_sec)));
    let packets = of(capacity.and_then(|it| it.packets_per_sec).map(|it| it.to_string()));
    let leases = of(capacity.map(|it| it.lease_count.to_string()));
    let fullest = load.fullest.as_ref().map(|name| format!(" by {name}")).unwrap_or_default();
    let full = match capacity {
        Some(_) => format!("{} full{fullest}", share(load.fullness)),
        None => "its configuration does not state what it can carry".to_owned(),
    };
    format!(
        "{full}; {}{bits}, {}{packets} packets/s, {}{leases} leases, {} drops/s, {} of the host's processors",
        bit_rate(load.bits_per_sec),
        load.packets_per_sec,
        load.lease_count,
        load.drops_per_sec,
        share(load.cpu_share.map(f64::from)),
    )
}

/// Who hears the edge, and how well.
fn probes_table(probes: &[EdgeProbe]) -> String {
    let rows = probes.iter().map(|EdgeProbe { from, health }| {
        [
            Cell::new(from),
            state_cell(if health.alive { "alive" } else { "down" }),
            Cell::new(micros(health.rtt_us)),
            Cell::new(micros(health.jitter_us)),
            Cell::new(format!("{:.1}%", health.loss * 100.0)),
            Cell::new(health.generation),
        ]
    });
    table_of(&["PROBED BY", "STATE", "RTT", "JITTER", "LOSS", "LEASES AS OF"], rows, "nobody probes it")
}
