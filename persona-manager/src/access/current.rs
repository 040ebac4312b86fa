//! Whose request the current task serves, from where and why. It travels with the task, so that no handler can forget to name it.

use std::sync::Arc;

tokio::task_local! {
    static ACTING: Acting;
}

/// Who acts where nobody asked for it.
pub(crate) const MANAGER: &str = "manager";

/// On whose behalf something is done; events keep all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acting {
    /// Who.
    pub actor: Arc<str>,
    /// From where: an address, or `socket` for the manager's own host.
    pub source: Option<Arc<str>>,
    /// Why, in their words.
    pub reason: Option<Arc<str>>,
}

impl Default for Acting {
    fn default() -> Self {
        Self { actor: MANAGER.into(), source: None, reason: None }
    }
}

/// Runs `work` on somebody's behalf.
pub(crate) async fn acting<F: Future>(by: Acting, work: F) -> F::Output {
    ACTING.scope(by, work).await
}

/// On whose behalf the current task runs.
pub(crate) fn current() -> Acting {
    ACTING.try_with(Clone::clone).unwrap_or_default()
}
