//! When a connection of a node or an edge has to end although both sides are content: its certificate ends, or its key
//! is revoked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::authority::AgentCertificate;
use crate::clock::now_ms;
use crate::store::Snapshot;

/// Waits for the reason to cut a connection; forever where there is no certificate.
pub(super) async fn reason_to_cut(
    certificate: Option<AgentCertificate>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
) -> &'static str {
    let Some(certificate) = certificate else { return std::future::pending().await };
    let left = Duration::from_millis(certificate.expires_ms.saturating_sub(now_ms()));
    let mut end = std::pin::pin!(tokio::time::sleep(left));
    loop {
        if snapshots.borrow_and_update().revocations.contains_key(&certificate.public_key) {
            return "its key was revoked";
        }
        tokio::select! {
            () = &mut end => return "its certificate ended",
            changed = snapshots.changed() => if changed.is_err() { std::future::pending().await },
        }
    }
}
