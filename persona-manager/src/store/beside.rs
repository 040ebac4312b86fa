//! Changes by a manager that does not lead: meant so by whoever serves the request, and told apart where another was faster.
//!
//! It travels with the task, as whose request is served does, so that handlers are the same either way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;

tokio::task_local! {
    static BESIDE: Arc<AtomicBool>;
}

/// Runs `work`, whose changes are made beside the manager that leads. Returns whether another manager was faster with one of them; then
/// nothing of that one is stored, and it may be done again.
pub(crate) async fn beside<F: Future>(work: F) -> (F::Output, bool) {
    let outrun = Arc::<AtomicBool>::default();
    let output = BESIDE.scope(Arc::clone(&outrun), work).await;
    (output, outrun.load(Ordering::Relaxed))
}

/// Whether the current task's changes are meant to be made so.
pub(super) fn is_meant() -> bool {
    outcome().is_some()
}

/// Where it is noted that another was faster.
pub(super) fn outcome() -> Option<Arc<AtomicBool>> {
    BESIDE.try_with(Arc::clone).ok()
}

/// Notes what became of a change.
pub(super) fn note(outrun: &Option<Arc<AtomicBool>>, committed: &Result<(), Arc<StoreError>>) {
    if let (Some(outrun), Err(error)) = (outrun, committed)
        && matches!(**error, StoreError::Outrun)
    {
        outrun.store(true, Ordering::Relaxed);
    }
}
