//! `persona-ctl lease`: the slices of egress addresses that subjects hold.

use clap::Subcommand;
use comfy_table::Cell;
use persona_core::ids::{LeaseId, SubjectId};
use persona_core::wire::api::LeaseView;
use persona_core::wire::desired::AddressFamily;

use super::Session;
use super::print::{ahead, listed, now_ms, state_cell, table_of};

/// What to do with leases.
#[derive(Debug, Subcommand)]
pub(super) enum LeaseCommand {
    /// List leases, those in quarantine too.
    List {
        /// Only those of this subject.
        #[arg(long)]
        subject: Option<SubjectId>,
        /// Only those of this family: ipv4 or ipv6.
        #[arg(long, value_parser = parse_family)]
        family: Option<AddressFamily>,
    },
    /// Show a lease.
    Get {
        /// Its id.
        #[arg(value_parser = parse_id)]
        id: LeaseId,
    },
}

fn parse_id(text: &str) -> Result<LeaseId, String> {
    text.parse().map(LeaseId).map_err(|_| format!("{text:?} is no lease id: lease list shows them"))
}

fn parse_family(text: &str) -> Result<AddressFamily, String> {
    match text {
        "ipv4" => Ok(AddressFamily::Ipv4),
        "ipv6" => Ok(AddressFamily::Ipv6),
        _ => Err(format!("{text:?} is no family: write ipv4 or ipv6")),
    }
}

/// How many of a lease's external ports live flows hold, and how many of them are shared.
fn use_text(lease: &LeaseView) -> String {
    let Some(held) = lease.use_ else { return "-".to_owned() };
    let shared =
        if held.shared_port_count > 0 { format!(", {} shared", held.shared_port_count) } else { String::new() };
    match held.slot_count {
        0 => format!("{} flows{shared}", held.live_slot_count),
        count => format!("{} of {count}{shared}", held.live_slot_count),
    }
}

impl LeaseCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        match self {
            Self::List { subject, family } => {
                let mut leases = session.client.leases().await?;
                leases.retain(|lease| subject.as_ref().is_none_or(|subject| lease.subject == *subject));
                leases.retain(|lease| family.is_none_or(|family| lease.space.family() == family));
                session.output.show(&leases, |leases| list(leases))
            }
            Self::Get { id } => {
                let lease = session.client.lease(id).await?;
                session.output.show(&lease, |lease| list(std::slice::from_ref(lease)))
            }
        }
    }
}

/// The address or prefix that a lease is of.
fn held_of(lease: &LeaseView) -> String {
    lease.space.address().map_or_else(|| lease.space.to_string(), |address| address.to_string())
}

/// Port ranges: `2048-3071, 4096-5119`, or `all`.
pub(super) fn ports_text(lease: &LeaseView) -> String {
    if lease.space.is_whole_address() || lease.space.prefix().is_some() {
        return "all".to_owned();
    }
    listed(lease.ports.iter().map(|(first, last)| format!("{first}-{last}")))
}

/// When a lease that rests is free, or when what is left of its flows is cut.
fn end_text(lease: &LeaseView, now_ms: u64) -> String {
    match lease.cut_at_ms {
        Some(at_ms) => format!("cut {}", ahead(Some(at_ms), now_ms)),
        None => ahead(lease.free_at_ms, now_ms),
    }
}

fn list(leases: &[LeaseView]) -> String {
    let now = now_ms();
    let rows = leases.iter().map(|lease| {
        [
            Cell::new(lease.id),
            Cell::new(&lease.subject),
            Cell::new(&lease.persona),
            Cell::new(lease.vni),
            Cell::new(lease.space.family()),
            Cell::new(held_of(lease)),
            Cell::new(ports_text(lease)),
            Cell::new(use_text(lease)),
            Cell::new(&lease.pool),
            state_cell(&lease.state),
            Cell::new(end_text(lease, now)),
        ]
    });
    let header = ["LEASE", "SUBJECT", "PERSONA", "VNI", "FAMILY", "ADDRESS", "PORTS", "USE", "POOL", "STATE", "FREE"];
    table_of(&header, rows, "no leases")
}
