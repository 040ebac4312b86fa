//! Word from the kernel that links, addresses, routes or neighbours have changed.

use std::sync::Arc;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use tokio::sync::Notify;

use super::NetlinkError;

/// What to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notices {
    /// Links, addresses and routes.
    Routes,
    /// These and the neighbour table, which changes all the time.
    RoutesAndNeighbours,
}

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Neigh,
];

/// Notifies `changed` whenever the kernel says that something changed. What changed is not said: whoever waits looks
/// at the whole again, so that nothing is missed when messages are lost.
pub fn watch(changed: Arc<Notify>, notices: Notices) -> Result<(), NetlinkError> {
    let groups = if notices == Notices::Routes { &GROUPS[..5] } else { &GROUPS[..] };
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(groups).map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    tokio::spawn(async move {
        while messages.next().await.is_some() {
            changed.notify_one();
        }
        tracing::error!("the kernel's notices have ended; changes are seen by the periodic look only");
    });
    Ok(())
}
