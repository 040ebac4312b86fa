//! What is listed: a table per kind of thing, with rates between two looks.

use persona_core::wire::api::{AssignmentView, EdgeView, NodeView, PersonaView, WorkloadView};

use super::Known;
use super::fleet::{Fleet, drop_count, node_traffic};
use crate::cli::node::micros;
use crate::cli::print::ahead;
use crate::cli::print::now_ms;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Nodes,
    Edges,
    Personas,
    Subjects,
}

impl Tab {
    pub(super) const ALL: [Self; 4] = [Self::Nodes, Self::Edges, Self::Personas, Self::Subjects];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Nodes => "Nodes",
            Self::Edges => "Edges",
            Self::Personas => "Personas",
            Self::Subjects => "Subjects",
        }
    }

    pub(super) fn header(self) -> &'static [&'static str] {
        match self {
            Self::Nodes => &["NODE", "STATE", "SUBJECTS", "LEASES", "PORTS", "UP", "DOWN", "DROPS/S"],
            Self::Edges => &["EDGE", "GROUP", "STATE", "WEIGHT", "LEASES", "RATE", "FULL", "RTT", "LOSS", "DROPS/S"],
            Self::Personas => &["PERSONA", "WEARERS", "UP", "DOWN", "PACKETS/S"],
            Self::Subjects => &["SUBJECT", "PERSONA", "BY", "IN FORCE", "UP", "DOWN", "UNTIL"],
        }
    }
}

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    /// What needs a person's eye.
    Wrong,
    /// What is on its way.
    Passing,
}

/// A cell: what it says, and where it comes when the table is sorted by it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    rank: Option<f64>,
    pub(super) look: Look,
}

/// A row; `key` says which thing it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) cells: Vec<Cell>,
}

/// The rows that contain `filter`, in any case, sorted by a column: numbers from the largest, names from A, unless turned.
pub(super) fn rows(tab: Tab, known: &Known, filter: &str, sort: usize, is_turned: bool) -> Vec<Row> {
    let mut rows = all_rows(tab, known);
    let filter = filter.to_lowercase();
    rows.retain(|row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&filter)));
    rows.sort_by(|one, other| {
        let (first, second) = (&one.cells[sort], &other.cells[sort]);
        let order = match (first.rank, second.rank) {
            (Some(first), Some(second)) => second.total_cmp(&first),
            _ => first.text.cmp(&second.text),
        };
        let order = if is_turned { order.reverse() } else { order };
        order.then_with(|| one.key.cmp(&other.key))
    });
    rows
}

fn all_rows(tab: Tab, Known { now, before, .. }: &Known) -> Vec<Row> {
    let rates = Rates { secs: before.as_ref().map_or(0.0, |before| (now.at - before.at).as_secs_f64()) };
    match tab {
        Tab::Nodes => {
            let old = |name: &str| before.as_ref()?.nodes.iter().find(|node| node.name.as_str() == name);
            now.nodes.iter().map(|node| node_row(node, old(node.name.as_str()), now, rates)).collect()
        }
        Tab::Edges => {
            let old = |name: &str| before.as_ref()?.edges.iter().find(|edge| edge.name.as_str() == name);
            now.edges.iter().map(|edge| edge_row(edge, old(edge.name.as_str()), rates)).collect()
        }
        Tab::Personas => persona_rows(now, before.as_ref(), rates),
        Tab::Subjects => subject_rows(now, before.as_ref(), rates),
    }
}

fn node_row(node: &NodeView, old: Option<&NodeView>, fleet: &Fleet, rates: Rates) -> Row {
    let (state, look) = match node {
        NodeView { revoked: Some(_), .. } => ("revoked", Look::Wrong),
        NodeView { up: false, .. } => ("down", Look::Wrong),
        NodeView { cut_off: true, .. } => ("cut off", Look::Wrong),
        NodeView { rejected: Some(_), .. } => ("rejects", Look::Wrong),
        NodeView { draining: true, .. } => ("draining", Look::Passing),
        node if node.applied != node.desired => ("behind", Look::Passing),
        _ => ("up", Look::Plain),
    };
    let (traffic, before) = (node_traffic(&node.counters), old.map(|old| node_traffic(&old.counters)));
    let drops = rates.of(drop_count(&node.counters), old.map(|old| drop_count(&old.counters)));
    let subjects = fleet.workloads.iter().filter(|workload| workload.node == node.name).count();
    let cells = vec![
        text(node.name.as_str()),
        Cell { look, ..text(state) },
        count(subjects as f64),
        count(f64::from(node.lease_count)),
        count(node.live_slot_count as f64),
        bit_rate(rates.of(traffic.egress_bytes, before.map(|it| it.egress_bytes))),
        bit_rate(rates.of(traffic.ingress_bytes, before.map(|it| it.ingress_bytes))),
        drop_rate(drops),
    ];
    Row { key: node.name.to_string(), cells }
}

fn edge_row(edge: &EdgeView, old: Option<&EdgeView>, rates: Rates) -> Row {
    let (state, look) = match edge {
        EdgeView { revoked: Some(_), .. } => ("revoked", Look::Wrong),
        EdgeView { maintenance: Some(_), .. } => ("maintenance", Look::Passing),
        EdgeView { state, .. } if state != "up" => (state.as_str(), Look::Wrong),
        EdgeView { rejected: Some(_), .. } => ("rejects", Look::Wrong),
        EdgeView { flags, .. } if !flags.is_empty() => ("flagged", Look::Wrong),
        EdgeView { leaving: true, .. } => ("leaving", Look::Passing),
        EdgeView { draining: true, .. } => ("draining", Look::Passing),
        _ => ("up", Look::Plain),
    };
    let full = edge.capacity.as_ref().filter(|capacity| capacity.bits_per_sec > 0);
    let full = full.map(|capacity| edge.bits_per_sec as f64 / capacity.bits_per_sec as f64);
    let mut rtts: Vec<u32> = edge.probes.iter().filter_map(|probe| probe.health.rtt_us).collect();
    rtts.sort_unstable();
    let rtt = rtts.get(rtts.len() / 2).copied();
    let loss = edge.probes.iter().map(|probe| probe.health.loss).fold(0.0, f32::max);
    let drops = rates.of(drop_count(&edge.counters), old.map(|old| drop_count(&old.counters)));
    let cells = vec![
        text(edge.name.as_str()),
        text(edge.group.as_str()),
        Cell { look, ..text(state) },
        count(f64::from(edge.weight)),
        count(f64::from(edge.lease_count)),
        bit_rate(Some(edge.bits_per_sec as f64 / 8.0)),
        full.map_or_else(|| ranked("-".to_owned(), -1.0), |full| ranked(format!("{:.0}%", full * 100.0), full)),
        ranked(micros(rtt), rtt.map_or(-1.0, f64::from)),
        Cell {
            look: if loss > 0.0 { Look::Wrong } else { Look::Plain },
            ..ranked(format!("{:.1}%", loss * 100.0), loss.into())
        },
        drop_rate(drops),
    ];
    Row { key: edge.name.to_string(), cells }
}

fn persona_rows(now: &Fleet, before: Option<&Fleet>, rates: Rates) -> Vec<Row> {
    let (traffic, old) = (now.persona_traffic(), before.map(Fleet::persona_traffic));
    let row = |persona: &PersonaView| {
        let vni = persona.vni.0;
        let traffic = traffic.get(&vni).copied().unwrap_or_default();
        let old = old.as_ref().map(|old| old.get(&vni).copied().unwrap_or_default());
        let packets = traffic.egress_packets + traffic.ingress_packets;
        let packets = rates.of(packets, old.map(|it| it.egress_packets + it.ingress_packets));
        let cells = vec![
            text(&format!("{}@{}", persona.name, persona.version)),
            count(f64::from(persona.wearers)),
            bit_rate(rates.of(traffic.egress_bytes, old.map(|it| it.egress_bytes))),
            bit_rate(rates.of(traffic.ingress_bytes, old.map(|it| it.ingress_bytes))),
            packets.map_or_else(|| ranked("-".to_owned(), -1.0), |packets| ranked(short(packets), packets)),
        ];
        Row { key: persona.name.to_string(), cells }
    };
    now.personas.iter().map(row).collect()
}

fn subject_rows(now: &Fleet, before: Option<&Fleet>, rates: Rates) -> Vec<Row> {
    let (traffic, old) = (now.subjects(), before.map(Fleet::subjects));
    let row = |workload: &WorkloadView| {
        let AssignmentView { subject, sections, in_force, .. } = &workload.assignment;
        let worn = sections.get("network");
        let traffic = traffic.get(subject).copied().unwrap_or_default();
        let old = old.as_ref().map(|old| old.get(subject).copied().unwrap_or_default());
        let persona = worn.map(|worn| text(&format!("{}@{}", worn.persona, worn.version)));
        let force = if *in_force { text("yes") } else { Cell { look: Look::Passing, ..text("not yet") } };
        let cells = vec![
            text(&subject.to_string()),
            persona.unwrap_or_else(|| Cell { look: Look::Wrong, ..text("none") }),
            text(worn.map_or("-", |worn| worn.layer.as_str())),
            force,
            bit_rate(rates.of(traffic.egress_bytes, old.map(|it| it.egress_bytes))),
            bit_rate(rates.of(traffic.ingress_bytes, old.map(|it| it.ingress_bytes))),
            text(&ahead(worn.and_then(|worn| worn.until_ms), now_ms())),
        ];
        Row { key: subject.to_string(), cells }
    };
    now.workloads.iter().map(row).collect()
}

/// How things change between two looks.
#[derive(Debug, Clone, Copy)]
struct Rates {
    secs: f64,
}

impl Rates {
    /// Per second. None: there is no earlier count, or it began anew.
    fn of(self, count: u64, before: Option<u64>) -> Option<f64> {
        let more = count.checked_sub(before?)?;
        (self.secs > 0.0).then(|| more as f64 / self.secs)
    }
}

fn text(text: &str) -> Cell {
    Cell { text: text.to_owned(), rank: None, look: Look::Plain }
}

fn ranked(text: String, rank: f64) -> Cell {
    Cell { text, rank: Some(rank), look: Look::Plain }
}

fn count(count: f64) -> Cell {
    ranked(format!("{count:.0}"), count)
}

/// Bits per second, of bytes per second.
fn bit_rate(bytes_per_sec: Option<f64>) -> Cell {
    let Some(rate) = bytes_per_sec else { return ranked("-".to_owned(), -1.0) };
    ranked(if rate == 0.0 { "0".to_owned() } else { format!("{}bit/s", short(rate * 8.0)) }, rate)
}

fn drop_rate(drops: Option<f64>) -> Cell {
    let Some(rate) = drops else { return ranked("-".to_owned(), -1.0) };
    let look = if rate > 0.0 { Look::Wrong } else { Look::Plain };
    Cell { look, ..ranked(short(rate), rate) }
}

/// A number in three digits, with a decimal prefix.
pub(super) fn short(value: f64) -> String {
    let prefixes = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let found = prefixes.into_iter().find(|(unit, _)| value >= *unit);
    let (value, prefix) = found.map_or((value, ""), |(unit, prefix)| (value / unit, prefix));
    match value {
        value if value >= 100.0 || value == 0.0 || (prefix.is_empty() && value.fract() == 0.0) => {
            format!("{value:.0} {prefix}")
        }
        value if value >= 10.0 => format!("{value:.1} {prefix}"),
        value => format!("{value:.2} {prefix}"),
    }
    .trim_end()
    .to_owned()
}
