//! When a connection with a client certificate has to end although both sides are content: the certificate of a node or
//! an edge ends, its key is revoked, or nobody trusts the root any more under which it is.

use std::time::Duration;

use tokio::sync::watch;

use crate::authority::{AgentCertificate, is_trusted_issuer};
use crate::clock::now_ms;
use crate::store::Trust;

/// Waits for the reason to cut a connection; forever where there is no certificate.
pub(super) async fn reason_to_cut(
    certificate: Option<AgentCertificate>,
    issuer: Option<String>,
    mut trust: watch::Receiver<Trust>,
) -> &'static str {
    let Some(issuer) = issuer else { return std::future::pending().await };
    let mut end = std::pin::pin!(end_of(certificate.as_ref()));
    loop {
        let Trust { roots, revocations } = trust.borrow_and_update().clone();
        if certificate.as_ref().is_some_and(|it| revocations.contains_key(&it.public_key)) {
            return "its key was revoked";
        }
        if !is_trusted_issuer(&roots, &issuer) {
            return "the root of its certificate was retired";
        }
        tokio::select! {
            () = &mut end => return "its certificate ended",
            changed = trust.changed() => if changed.is_err() { std::future::pending().await },
        }
    }
}

async fn end_of(certificate: Option<&AgentCertificate>) {
    match certificate {
        Some(certificate) => {
            tokio::time::sleep(Duration::from_millis(certificate.expires_ms.saturating_sub(now_ms()))).await;
        }
        None => std::future::pending().await,
    }
}
