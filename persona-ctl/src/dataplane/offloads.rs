//! The one offload that loses packets: a device that hands a sender's batch of UDP (`UDP_SEGMENT`) over whole, inside its
//! tunnel packet. No kernel takes a tunnel off such a batch for a program (docs/packets.md §6).
//!
//! A real network card cuts the batch; a veth does not. Towards tunnels, `tx-udp-segmentation` is switched off there, and
//! a directory `offloads/IFINDEX-NAMESPACE` on the bpffs says that it was us, so that `detach` switches it on again.

use std::io;
use std::path::Path;

use super::clsact::network_namespace;
use super::{ethtool, sys};
use crate::host::error_chain;

/// What the kernel calls the offload.
const UDP_SEGMENTATION: &str = "tx-udp-segmentation";

/// Drivers that hand batches over as they are.
const WHOLE_DRIVERS: [&str; 1] = ["veth"];

/// What is done about offloads of the device that tunnels leave by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Offloads {
    /// Those that would lose packets are switched off; `detach` switches them on again.
    #[default]
    Adjust,
    /// None is touched; `doctor` says which lose packets.
    Leave,
}

/// Whether batches of UDP that leave by this device get lost behind the tunnel.
pub fn loses_udp_batches(interface: &str) -> bool {
    let is_whole = ethtool::driver(interface).is_ok_and(|driver| WHOLE_DRIVERS.contains(&driver.as_str()));
    is_whole && ethtool::feature(interface, UDP_SEGMENTATION).is_ok_and(|is_on| is_on == Some(true))
}

/// Switches off what would lose packets on the device that tunnels leave by, and notes that. What cannot be done is
/// told and left: everything but batches of UDP gets through.
pub fn adjust_offloads(bpffs: &Path, ifindex: u32, choice: Offloads) {
    let Some(interface) = sys::interface_name(ifindex) else { return };
    if !loses_udp_batches(&interface) {
        return;
    }
    if choice == Offloads::Leave {
        tracing::warn!(
            device = interface,
            "batches of UDP that leave here are lost behind the tunnel: ethtool -K {interface} {UDP_SEGMENTATION} off"
        );
        return;
    }
    match switch_off(bpffs, &interface, ifindex) {
        Ok(()) => tracing::info!(
            device = interface,
            "{UDP_SEGMENTATION} is switched off: this device would hand batches of UDP over whole; detach switches it on again"
        ),
        Err(error) => tracing::warn!(
            device = interface,
            error = error_chain(&error),
            "{UDP_SEGMENTATION} cannot be switched off: batches of UDP that leave here are lost behind the tunnel"
        ),
    }
}

/// The note comes first: a switch that nobody remembers would stay.
fn switch_off(bpffs: &Path, interface: &str, ifindex: u32) -> io::Result<()> {
    let note = folder(bpffs).join(format!("{ifindex}-{}", network_namespace()?));
    std::fs::create_dir_all(&note)?;
    ethtool::set_feature(interface, UDP_SEGMENTATION, false)
}

/// Switches on what we switched off, and forgets it. Says on which devices; those that are gone took it with them.
pub(super) fn restore(bpffs: &Path) -> io::Result<Vec<String>> {
    let mut restored = Vec::new();
    let directory = folder(bpffs);
    if !directory.exists() {
        return Ok(restored);
    }
    for entry in std::fs::read_dir(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(interface) = name.split_once('-').and_then(|(ifindex, namespace)| device(ifindex, namespace)) {
            ethtool::set_feature(&interface, UDP_SEGMENTATION, true)?;
            restored.push(interface);
        }
        std::fs::remove_dir(entry.path())?;
    }
    std::fs::remove_dir(&directory)?;
    restored.sort();
    Ok(restored)
}

/// The device that a note is about, if it is in this network namespace.
fn device(ifindex: &str, namespace: &str) -> Option<String> {
    let is_here = network_namespace().ok()?.to_string() == namespace;
    sys::interface_name(ifindex.parse().ok()?).filter(|_| is_here)
}

fn folder(bpffs: &Path) -> std::path::PathBuf {
    bpffs.join("offloads")
}
