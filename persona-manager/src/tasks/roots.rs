//! Takes over what the store says of roots, also while nobody connects: the key of a new root is soon on the disk of every
//! manager that runs. And has keys sealed in the store with the key that seals by now.

use std::time::Duration;

use crate::context::Context;

/// The file of sealing keys is looked at this often.
const SEAL_PERIOD: Duration = Duration::from_secs(5);

/// Runs until the manager stops.
pub(crate) async fn run(context: Context) {
    let mut snapshots = context.store.watch();
    let mut followed = context.store.snapshot().roots.clone();
    let mut seal_time = tokio::time::interval(SEAL_PERIOD);
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return,
            _ = seal_time.tick() => {
                seal(&context).await;
                continue;
            }
            changed = snapshots.changed() => if changed.is_err() { return },
        }
        let snapshot = snapshots.borrow_and_update().clone();
        if snapshot.roots.is_same(&followed) {
            continue;
        }
        followed = snapshot.roots.clone();
        match context.authority.follow(&context.store) {
            Ok(()) => tracing::info!(root.id = %context.authority.signing().id, "root certificates have changed"),
            Err(error) => tracing::error!(error = ?error, "root certificates have changed, and cannot be taken over"),
        }
    }
}

async fn seal(context: &Context) {
    match context.authority.seal_keys(&context.store).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(root.key_count = count, "keys of root certificates were sealed in the store"),
        Err(error) => tracing::error!(error = ?error, "keys of root certificates cannot be sealed in the store"),
    }
}
