//! Attaches programs to devices by pinned links: they outlive this process, and the next one replaces the program in
//! place (`bpf_link_update`), so that no packet passes unseen.

use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};

use super::error::DataplaneError;
use super::sys;

/// Loads a TC program of an object.
pub(super) fn load_tc(ebpf: &mut Ebpf, program: &str) -> Result<(), DataplaneError> {
    let failed = |source| failed(program, "loading", source);
    tc(ebpf, program).load().map_err(failed)
}

/// Loads an XDP program of an object.
pub(super) fn load_xdp(ebpf: &mut Ebpf, program: &str) -> Result<(), DataplaneError> {
    let failed = |source| failed(program, "loading", source);
    xdp(ebpf, program).load().map_err(failed)
}

/// Attaches a TC program to a device, or replaces the program of the link pinned at `pin`.
pub(super) fn attach_tc(
    ebpf: &mut Ebpf,
    program: &str,
    ifindex: u32,
    direction: TcAttachType,
    pin: &Path,
) -> Result<(), DataplaneError> {
    let interface = sys::interface_name(ifindex).ok_or(DataplaneError::NoDevice { ifindex })?;
    let classifier = tc(ebpf, program);
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let replaced = SchedClassifierLink::try_from(FdLink::from(pinned))
            .ok()
            .and_then(|link| classifier.attach_to_link(link).ok())
            .and_then(|id| classifier.take_link(id).ok());
        if let Some(link) = replaced {
            // Closes our descriptor only; the pin holds the link.
            drop(link);
            return Ok(());
        }
        // The device vanished and with it what the link held on to.
        remove_pin(program, pin)?;
    }
    let action = || format!("attaching to {interface} ({ifindex})");
    let id = classifier
        .attach_with_options(&interface, direction, TcAttachOptions::TcxOrder(LinkOrder::default()))
        .map_err(|source| failed(program, action(), source))?;
    let link = classifier.take_link(id).map_err(|source| failed(program, action(), source))?;
    pin_link(program, FdLink::try_from(link), pin)
}

/// Attaches an XDP program in native mode to a device, or replaces the program of the link pinned at `pin`.
pub(super) fn attach_xdp(ebpf: &mut Ebpf, program: &str, ifindex: u32, pin: &Path) -> Result<(), DataplaneError> {
    let action = || format!("attaching to device {ifindex} in native mode");
    let native = xdp(ebpf, program);
    if let Ok(pinned) = PinnedLink::from_pin(pin) {
        let replaced = XdpLink::try_from(FdLink::from(pinned))
            .ok()
            .and_then(|link| native.attach_to_link(link).ok())
            .and_then(|id| native.take_link(id).ok());
        if let Some(link) = replaced {
            drop(link);
            return Ok(());
        }
        remove_pin(program, pin)?;
    }
    let id = native.attach_to_if_index(ifindex, XdpMode::Driver).map_err(|source| failed(program, action(), source))?;
    let link = native.take_link(id).map_err(|source| failed(program, action(), source))?;
    pin_link(program, FdLink::try_from(link), pin)
}

/// Removes a link's pin, and so the link.
pub(super) fn remove_pin(program: &str, pin: &Path) -> Result<(), DataplaneError> {
    match std::fs::remove_file(pin) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(DataplaneError::Link { program: program.to_owned(), path: pin.to_owned(), source: source.into() })
        }
        _ => Ok(()),
    }
}

/// Removes the links whose program is one of `programs` and whose device isn't among `ifindices`.
pub(super) fn reap_links(links: &Path, programs: &[&str], ifindices: &[u32]) -> Result<(), DataplaneError> {
    let failed = |source| DataplaneError::Bpffs { path: links.to_owned(), action: "reading", source };
    for entry in std::fs::read_dir(links).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((program, ifindex)) = name.rsplit_once('-') else { continue };
        let is_kept = ifindex.parse().is_ok_and(|ifindex| ifindices.contains(&ifindex));
        if programs.contains(&program) && !is_kept {
            remove_pin(program, &entry.path())?;
        }
    }
    Ok(())
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
