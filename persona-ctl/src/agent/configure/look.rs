//! Finding the network namespace that a workload lives in, without keeping anything open that would keep it alive.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::plan::Reach;
use crate::netlink::{Link, Netlink, NetlinkError};
use crate::privilege;

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
    NotFound(String, #[source] std::io::Error),
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
        let opened = privilege::open_namespace(&path);
        let file = opened.map_err(|source| Unreachable::Open { path: path.clone(), source })?;
        return match netlink.namespace_id(&file).await? {
            Some(found) if found == id => Ok((path, file)),
            _ => Err(Unreachable::Elsewhere { path, device: link.name.clone() }),
        };
    }
    let hint = found_before.map(Path::to_owned);
    let found = tokio::task::spawn_blocking(move || privilege::namespace_behind(id, hint)).await;
    found.map_err(std::io::Error::other).flatten().map_err(|source| Unreachable::NotFound(link.name.clone(), source))
}
