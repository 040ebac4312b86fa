//! Whose request the current task serves. It travels with the task, so that no handler can forget to name it.

use std::sync::Arc;

tokio::task_local! {
    static ACTOR: Arc<str>;
}

/// Who acts where nobody asked for it.
pub(crate) const MANAGER: &str = "manager";

/// Runs `work` on behalf of `actor`.
pub(crate) async fn acting<F: Future>(actor: String, work: F) -> F::Output {
    ACTOR.scope(actor.into(), work).await
}

/// On whose behalf the current task runs.
pub(crate) fn actor() -> Arc<str> {
    ACTOR.try_with(Clone::clone).unwrap_or_else(|_| MANAGER.into())
}
