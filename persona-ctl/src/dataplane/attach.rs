//! Attaches programs to devices so that they outlive this process, and the next one replaces the program in place:
//! no packet passes unseen, and no program ever stands twice at a hook.
//!
//! XDP and TCX programs hang on pinned links (`bpf_link_update`); where the kernel has no TCX, TC programs hang on
//! filters (see `clsact.rs`).

use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};

use super::bpf_objects;
use super::bpffs::ROLES;
use super::clsact::{self, FilterNote};
use super::coexist::{self, Coexistence};
use super::error::DataplaneError;
use super::features::KernelFeatures;
use super::sys;

/// How often a program is offered to a verifier that a signal has interrupted.
const LOAD_ATTEMPTS_MAX: u32 = 5;

/// Loads a TC program of an object, unless it is loaded already.
pub(super) fn load_tc(ebpf: &mut Ebpf, program: &str) -> Result<(), DataplaneError> {
    let failed = |source| failed(program, "loading", source);
    let classifier = tc(ebpf, program);
    if classifier.fd().is_ok() {
        return Ok(());
    }
    for _ in 1..LOAD_ATTEMPTS_MAX {
        match classifier.load() {
            // A pending signal ends a verification with EAGAIN; libbpf tries again as well.
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            outcome => return outcome.map_err(failed),
        }
    }
    classifier.load().map_err(failed)
}

/// Loads an XDP program of an object.
pub(super) fn load_xdp(ebpf: &mut Ebpf, program: &str) -> Result<(), DataplaneError> {
    let failed = |source| failed(program, "loading", source);
    xdp(ebpf, program).load().map_err(failed)
}

/// Attaches a TC program to a device, or puts it in the place of the one that `pin` stands for.
pub(super) fn attach_tc(
    ebpf: &mut Ebpf,
    program: &str,
    ifindex: u32,
    direction: TcAttachType,
    pin: &Path,
    choice: Coexistence,
) -> Result<(), DataplaneError> {
    let classifier = tc(ebpf, program);
    if !KernelFeatures::has_tcx() {
        return clsact::attach(classifier, program, ifindex, direction, pin, choice);
    }
    let interface = sys::interface_name(ifindex).ok_or(DataplaneError::NoDevice { ifindex })?;
    let refused = |source| failed(program, format!("attaching to {interface} ({ifindex})"), source);
    if let Some((link, id)) = pinned(pin) {
        if is_at_tcx(id, ifindex, direction)
            && let Ok(link) = SchedClassifierLink::try_from(link)
        {
            let id = classifier.attach_to_link(link).map_err(refused)?;
            // Closes our descriptor only; the pin holds the link.
            drop(classifier.take_link(id).map_err(refused)?);
            return Ok(());
        }
        // The device vanished or left for another namespace: there the link goes with its pin.
        remove_pin(program, pin)?;
    }
    if !coexist::tc_occupants(ifindex, direction, &[], true)?.is_empty() {
        let occupants = coexist::tc_occupants(ifindex, direction, &links_of_all_roles(pin), true)?;
        coexist::settle_tc(program, ifindex, direction, occupants, choice)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = classifier.attach_with_options(&interface, direction, options).map_err(refused)?;
    let link = classifier.take_link(id).map_err(refused)?;
    pin_link(program, FdLink::try_from(link), pin)
}

/// Attaches an XDP program in native mode to a device, or puts it in the place of the one that `pin` holds.
pub(super) fn attach_xdp(
    ebpf: &mut Ebpf,
    program: &str,
    ifindex: u32,
    pin: &Path,
    choice: Coexistence,
) -> Result<(), DataplaneError> {
    let native = xdp(ebpf, program);
    let refused = |source| failed(program, format!("attaching to device {ifindex} in native mode"), source);
    if let Some((link, _)) = pinned(pin) {
        if is_at_xdp(pin, ifindex)
            && let Ok(link) = XdpLink::try_from(link)
        {
            let id = native.attach_to_link(link).map_err(refused)?;
            drop(native.take_link(id).map_err(refused)?);
            return Ok(());
        }
        remove_pin(program, pin)?;
    }
    let occupants = coexist::xdp_occupants(ifindex)?;
    coexist::settle_xdp(program, ifindex, occupants, choice)?;
    let id = native.attach_to_if_index(ifindex, XdpMode::Driver).map_err(refused)?;
    let link = native.take_link(id).map_err(refused)?;
    pin_link(program, FdLink::try_from(link), pin)
}

/// Whether what `pin` stands for is on the device still. A device that vanished or left for another namespace has
/// nothing of ours, whoever has its index now.
pub(super) fn is_attached(pin: &Path, ifindex: u32) -> bool {
    if let Some(note) = FilterNote::read(pin) {
        return clsact::is_attached(&note, ifindex);
    }
    let Some((_, id)) = pinned(pin) else { return false };
    let sides = [TcAttachType::Ingress, TcAttachType::Egress];
    is_at_xdp(pin, ifindex) || sides.into_iter().any(|direction| is_at_tcx(id, ifindex, direction))
}

/// Takes a program off its device: the pin goes, and so the link, or the filter.
pub(super) fn remove_pin(program: &str, pin: &Path) -> Result<(), DataplaneError> {
    let failed = |source: std::io::Error| DataplaneError::Link {
        program: program.to_owned(),
        path: pin.to_owned(),
        source: source.into(),
    };
    match FilterNote::read(pin) {
        Some(note) => clsact::remove(&note, ifindex_of(pin).unwrap_or(0), pin).map_err(failed),
        None => remove_link(pin).map_err(failed),
    }
}

/// Takes a link off its device and removes its pin. The kernel ends a link some time after its pin is gone, so it is
/// detached first, at once.
pub(super) fn remove_link(pin: &Path) -> std::io::Result<()> {
    if pin.is_file() {
        // The device may have gone and taken the link off by itself.
        let _ = bpf_objects::detach_pinned_link(pin);
    }
    match std::fs::remove_file(pin) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(source),
        _ => Ok(()),
    }
}

/// Removes what programs among `programs` have on devices that aren't among `ifindices`.
pub(super) fn reap_links(links: &Path, programs: &[&str], ifindices: &[u32]) -> Result<(), DataplaneError> {
    for (name, pin) in pins(links)? {
        let Some((program, ifindex)) = name.rsplit_once('-') else { continue };
        let is_kept = ifindex.parse().is_ok_and(|ifindex| ifindices.contains(&ifindex));
        if programs.contains(&program) && !is_kept {
            remove_pin(program, &pin)?;
        }
    }
    Ok(())
}

/// Removes what hangs on devices that vanished or left for another namespace; says on which, by the names of the pins.
pub(super) fn reap_vanished(links: &Path) -> Result<Vec<String>, DataplaneError> {
    let mut reaped = Vec::new();
    for (name, pin) in pins(links)? {
        if ifindex_of(&pin).is_some_and(|ifindex| !is_attached(&pin, ifindex)) {
            remove_pin(&name, &pin)?;
            tracing::info!(pin = name, "its device vanished or left for another namespace; the pin is removed");
            reaped.push(name);
        }
    }
    Ok(reaped)
}

/// The pins of a role, by name: program and interface index.
fn pins(links: &Path) -> Result<Vec<(String, std::path::PathBuf)>, DataplaneError> {
    let failed = |source| DataplaneError::Bpffs { path: links.to_owned(), action: "reading", source };
    let entries = std::fs::read_dir(links).map_err(failed)?;
    let named = |entry: std::fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    entries.map(|entry| entry.map(named).map_err(failed)).collect()
}

/// The interface index in a pin's name.
pub(super) fn ifindex_of(pin: &Path) -> Option<u32> {
    pin.file_name()?.to_str()?.rsplit_once('-')?.1.parse().ok()
}

/// A pinned link and its id.
fn pinned(pin: &Path) -> Option<(FdLink, u32)> {
    if !pin.is_file() {
        return None;
    }
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    let id = link.info().ok()?.id();
    Some((link, id))
}

fn is_at_tcx(link: u32, ifindex: u32, direction: TcAttachType) -> bool {
    let programs = bpf_objects::query_tcx(ifindex, direction).unwrap_or_default();
    programs.iter().any(|program| program.link_id == Some(link)) && sys::interface_name(ifindex).is_some()
}

/// A link knows its device's index; the device must also say that the link's program is there.
fn is_at_xdp(pin: &Path, ifindex: u32) -> bool {
    let Ok(Some(program)) = bpf_objects::pinned_xdp_program(pin, ifindex) else { return false };
    super::rtnetlink::xdp_programs(ifindex).is_ok_and(|programs| programs.contains(&program))
}

/// Ids of all links of ours, whatever their role.
fn links_of_all_roles(pin: &Path) -> Vec<u32> {
    let bpffs = pin.ancestors().nth(3).expect("a pin lies three folders below the bpffs");
    let folders = ROLES.map(|role| bpffs.join(role).join("links"));
    // A role that isn't here has no folder.
    let entries = folders.iter().filter_map(|folder| pins(folder).ok()).flatten();
    entries.filter_map(|(_, pin)| pinned(&pin)).map(|(_, id)| id).collect()
}

fn pin_link<E: std::error::Error + Send + Sync + 'static>(
    program: &str,
    link: Result<FdLink, E>,
    pin: &Path,
) -> Result<(), DataplaneError> {
    let kept = |source: Box<dyn std::error::Error + Send + Sync>| DataplaneError::Link {
        program: program.to_owned(),
        path: pin.to_owned(),
        source,
    };
    link.map_err(|error| kept(error.into()))?.pin(pin).map_err(|error| kept(error.into()))?;
    Ok(())
}

fn tc<'a>(ebpf: &'a mut Ebpf, program: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(program)
        .and_then(|program| program.try_into().ok())
        .expect("the object holds the TC programs that this binary was built with")
}

fn xdp<'a>(ebpf: &'a mut Ebpf, program: &str) -> &'a mut Xdp {
    ebpf.program_mut(program)
        .and_then(|program| program.try_into().ok())
        .expect("the object holds the XDP programs that this binary was built with")
}

fn failed(program: &str, action: impl Into<String>, source: ProgramError) -> DataplaneError {
    DataplaneError::Program { program: program.to_owned(), action: action.into(), source: source.into() }
}
