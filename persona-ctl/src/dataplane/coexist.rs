//! Other people's programs at the hooks that ours want: who is there, and what is done about it.
//!
//! Several programs share a TC hook; the first that does not say "next" decides, so ours stand first. Native XDP has
//! one place per device, and what stands in another mode keeps it as well.

use std::fmt;

use aya::programs::TcAttachType;

use super::bpf_objects::{self, AttachedProgram};
use super::error::DataplaneError;
use super::tc_filters::{self, Filter};
use super::{rtnetlink, sys};

/// What is done about programs of others at the same hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Coexistence {
    /// Nothing is attached where another program is.
    Refuse,
    /// At TC ours run first, the others after them. At XDP there is one place: refused.
    #[default]
    Chain,
    /// The others are removed, and not put back when ours go.
    Replace,
}

/// Somebody else's program at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Occupant {
    /// The program's id; 0 if it is not an eBPF program.
    program_id: u32,
    /// Its name, or the kind of filter.
    name: String,
    /// How it is attached: `tcx`, `clsact` or `xdp`.
    how: &'static str,
    place: Place,
}

/// What removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A link, with its id.
    Link(u32),
    /// `BPF_PROG_ATTACH`.
    Program,
    /// A filter of a clsact queue.
    Filter(Filter),
    /// An XDP program set over netlink.
    XdpSlot,
}

impl fmt::Display for Occupant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.program_id {
            0 => write!(formatter, "a {} filter ({})", self.name, self.how),
            id => write!(formatter, "program {id} {:?} ({})", self.name, self.how),
        }
    }
}

/// Everybody else at a TC hook: first those on links, then those on filters. `ours` are ids of links that are ours.
pub(super) fn tc_occupants(
    ifindex: u32,
    direction: TcAttachType,
    ours: &[u32],
    has_tcx: bool,
) -> Result<Vec<Occupant>, DataplaneError> {
    let failed = |source| hook_error(ifindex, source);
    let linked = if has_tcx { bpf_objects::query_tcx(ifindex, direction).map_err(failed)? } else { Vec::new() };
    let linked = linked.into_iter().filter(|program| program.link_id.is_none_or(|link| !ours.contains(&link)));
    let mut occupants: Vec<Occupant> = linked.map(on_tcx).collect();
    let filters = tc_filters::list(ifindex, direction).map_err(failed)?;
    occupants.extend(filters.into_iter().filter(|filter| !filter.is_ours()).map(on_filter));
    Ok(occupants)
}

/// Whoever has XDP on the device, in any mode.
pub(super) fn xdp_occupants(ifindex: u32) -> Result<Vec<Occupant>, DataplaneError> {
    let failed = |source| hook_error(ifindex, source);
    let programs = rtnetlink::xdp_programs(ifindex).map_err(failed)?;
    let links = bpf_objects::xdp_links(ifindex).map_err(failed)?;
    Ok(programs.into_iter().map(|program| on_xdp(program, &links)).collect())
}

/// Makes room at a TC hook, or says who is in the way.
pub(super) fn settle_tc(
    program: &str,
    ifindex: u32,
    direction: TcAttachType,
    occupants: Vec<Occupant>,
    choice: Coexistence,
) -> Result<(), DataplaneError> {
    match choice {
        _ if occupants.is_empty() => Ok(()),
        Coexistence::Chain => {
            let others = list(&occupants);
            tracing::info!(interface.index = ifindex, program, others, "ours run before other programs at this hook");
            Ok(())
        }
        Coexistence::Refuse => {
            let advice = "remove it, or choose `--coexist chain` (ours run first) or `--coexist replace` (it is removed and not put back)";
            Err(occupied(program, ifindex, &occupants, advice))
        }
        Coexistence::Replace => occupants.iter().try_for_each(|occupant| remove(ifindex, Some(direction), occupant)),
    }
}

/// Makes room for XDP, or says who is in the way.
pub(super) fn settle_xdp(
    program: &str,
    ifindex: u32,
    occupants: Vec<Occupant>,
    choice: Coexistence,
) -> Result<(), DataplaneError> {
    match choice {
        _ if occupants.is_empty() => Ok(()),
        Coexistence::Replace => occupants.iter().try_for_each(|occupant| remove(ifindex, None, occupant)),
        Coexistence::Refuse | Coexistence::Chain => {
            let advice = "XDP has one place per device: remove it, choose `hook = \"tc\"` (it then runs before ours), or `--coexist replace` (it is removed and not put back)";
            Err(occupied(program, ifindex, &occupants, advice))
        }
    }
}

/// Takes somebody else's program away.
fn remove(ifindex: u32, direction: Option<TcAttachType>, occupant: &Occupant) -> Result<(), DataplaneError> {
    let failed = |source| hook_error(ifindex, source);
    match (&occupant.place, direction) {
        (Place::Link(id), _) => bpf_objects::detach_link(*id).map_err(failed)?,
        (Place::Filter(filter), Some(direction)) => {
            tc_filters::remove(ifindex, direction, filter).map_err(failed)?;
        }
        (Place::Program, Some(direction)) => {
            bpf_objects::detach_tcx_program(ifindex, direction, occupant.program_id).map_err(failed)?;
        }
        _ => rtnetlink::remove_xdp(ifindex).map_err(failed)?,
    }
    let told = occupant.to_string();
    tracing::warn!(
        interface.index = ifindex,
        removed = told,
        "a program of somebody else was removed; detach does not put it back"
    );
    Ok(())
}

fn on_tcx(program: AttachedProgram) -> Occupant {
    let place = program.link_id.map_or(Place::Program, Place::Link);
    Occupant { program_id: program.id, name: bpf_objects::program_name(program.id), how: "tcx", place }
}

fn on_filter(filter: Filter) -> Occupant {
    // A filter's own name is what its maker made of a file's name; the program's name says more.
    let name = filter.program_id.map_or_else(|| filter.kind.clone(), bpf_objects::program_name);
    Occupant { program_id: filter.program_id.unwrap_or(0), name, how: "clsact", place: Place::Filter(filter) }
}

fn on_xdp(program_id: u32, links: &[AttachedProgram]) -> Occupant {
    let link = links.iter().find(|link| link.id == program_id).and_then(|link| link.link_id);
    let place = link.map_or(Place::XdpSlot, Place::Link);
    Occupant { program_id, name: bpf_objects::program_name(program_id), how: "xdp", place }
}

fn list(occupants: &[Occupant]) -> String {
    occupants.iter().map(Occupant::to_string).collect::<Vec<_>>().join(", ")
}

fn occupied(program: &str, ifindex: u32, occupants: &[Occupant], advice: &'static str) -> DataplaneError {
    let interface = sys::interface_name(ifindex).unwrap_or_else(|| format!("device {ifindex}"));
    DataplaneError::Occupied { program: program.to_owned(), interface, occupants: list(occupants), advice }
}

/// The hooks of a device could not be looked at or changed.
pub(super) fn hook_error(ifindex: u32, source: std::io::Error) -> DataplaneError {
    let interface = sys::interface_name(ifindex).unwrap_or_else(|| format!("device {ifindex}"));
    DataplaneError::Hook { interface, source }
}
