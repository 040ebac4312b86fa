//! Takes over what the store says of roots, also while nobody connects: the key of a new root is soon on the disk of every
//! manager that runs.

use std::sync::Arc;

use crate::context::Context;

/// Runs until the manager stops.
pub(crate) async fn run(context: Context) {
    let mut snapshots = context.store.watch();
    let mut followed = context.store.snapshot().roots.clone();
    loop {
        let changed = context.stop.run_until_cancelled(snapshots.changed()).await;
        if !matches!(changed, Some(Ok(()))) {
            return;
        }
        let snapshot = snapshots.borrow_and_update().clone();
        if Arc::ptr_eq(&snapshot.roots, &followed) {
            continue;
        }
        followed = snapshot.roots.clone();
        match context.authority.follow(&context.store) {
            Ok(()) => tracing::info!(root.id = %context.authority.signing().id, "root certificates have changed"),
            Err(error) => tracing::error!(error = ?error, "root certificates have changed, and cannot be taken over"),
        }
    }
}
