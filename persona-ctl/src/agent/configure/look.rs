//! Finding the network namespace that a workload lives in, without keeping anything open that would keep it alive.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::plan::Reach;
use crate::netlink::{Link, Netlink, NetlinkError};

/// Where named namespaces are: iproute2's and Docker's.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Why a workload's inside cannot be configured, with what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    /// A tap, or anything else without another end.
    #[error(
        "device {0} has no other end in a network namespace (a guest?): set serve = true to offer its addresses by DHCP and router advertisements, or netns or pid if its inside is a namespace, or let the persona rewrite (assign: rewrite)"
    )]
    NoPeer(String),
    /// Both ends are here.
    #[error(
        "the other end of device {0} is in the host's own namespace: move it into the workload's, or let the persona rewrite (assign: rewrite)"
    )]
    SameNamespace(String),
    /// No name and no process leads to the peer's namespace.
    #[error(
        "no name under /run/netns and no process leads to the namespace of device {0}'s other end: set netns or pid"
    )]
    NotFound(String),
    /// The configured way does not exist.
    #[error("network namespace {path} cannot be opened")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configured way leads elsewhere.
    #[error("network namespace {path} does not hold the other end of device {device}: correct netns or pid")]
    Elsewhere {
        /// Which file.
        path: PathBuf,
        /// The host's side of the device.
        device: String,
    },
    /// The kernel did not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The namespace of the other end of `link`: its file, opened, and where it was found.
pub(super) async fn find(
    netlink: &Netlink,
    link: &Link,
    reach: &Reach,
    found_before: Option<&Path>,
) -> Result<(PathBuf, File), Unreachable> {
    let path = match reach {
        Reach::Namespace(path) => Some(path.clone()),
        Reach::Process(pid) => Some(format!("/proc/{pid}/ns/net").into()),
        Reach::Peer | Reach::Serve => None,
    };
    let peer = link.peer.ok_or_else(|| Unreachable::NoPeer(link.name.clone()))?;
    let id = peer.namespace_id.ok_or_else(|| Unreachable::SameNamespace(link.name.clone()))?;
    if let Some(path) = path {
        let file = File::open(&path).map_err(|source| Unreachable::Open { path: path.clone(), source })?;
        return match netlink.namespace_id(&file).await? {
            Some(found) if found == id => Ok((path, file)),
            _ => Err(Unreachable::Elsewhere { path, device: link.name.clone() }),
        };
    }
    let mut seen = BTreeSet::new();
    for path in found_before.map(Path::to_owned).into_iter().chain(candidates()) {
        let Ok(file) = File::open(&path) else { continue };
        let is_new = file.metadata().is_ok_and(|facts| seen.insert((facts.dev(), facts.ino())));
        if is_new && netlink.namespace_id(&file).await.is_ok_and(|found| found == Some(id)) {
            return Ok((path, file));
        }
    }
    Err(Unreachable::NotFound(link.name.clone()))
}

/// Every file that leads to a network namespace: the named ones first, then one per process.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let entries = |directory: &str| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = NAMED.into_iter().flat_map(entries).map(|entry| entry.path());
    let processes = entries("/proc")
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())));
    named.chain(processes.map(|entry| entry.path().join("ns/net")))
}
