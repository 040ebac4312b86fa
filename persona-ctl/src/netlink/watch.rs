//! Word from the kernel that links, addresses, routes or neighbours have changed.

use std::sync::Arc;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use tokio::sync::Notify;

use super::NetlinkError;

const GROUPS: [MulticastGroup; 4] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route, MulticastGroup::Neigh];

/// Notifies `changed` whenever the kernel says that something changed. What changed is not said: whoever waits looks
/// at the whole again, so that nothing is missed when messages are lost.
pub fn watch(changed: Arc<Notify>) -> Result<(), NetlinkError> {
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    tokio::spawn(async move {
        while messages.next().await.is_some() {
            changed.notify_one();
        }
        tracing::error!("the kernel's notices have ended; changes are seen by the periodic look only");
    });
    Ok(())
}
