//! One stop signal for every role: SIGINT or SIGTERM cancels the token that all tasks watch, and the service manager is told.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::supervisor;

/// A token that is cancelled by the first SIGINT or SIGTERM.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        supervisor::stopping();
        cancel.cancel();
    });
    Ok(stop)
}
