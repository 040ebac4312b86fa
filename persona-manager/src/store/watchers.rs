//! Who waits for news about one node or edge: woken when that one is told something else, not whenever anything changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::records::AgentId;
use super::snapshot::Snapshot;

/// All that wait, by whom they wait for.
type Waiting = BTreeMap<AgentId, Vec<Arc<Notify>>>;

/// Who waits; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers(Arc<Mutex<Waiting>>);

/// One that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: AgentId,
    news: Arc<Notify>,
    watchers: Watchers,
}

impl Watcher {
    /// Waits until there may be news. What came since it last did so counts.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut all = self.watchers.lock();
        let Some(of_agent) = all.get_mut(&self.id) else { return };
        of_agent.retain(|news| !Arc::ptr_eq(news, &self.news));
        if of_agent.is_empty() {
            all.remove(&self.id);
        }
    }
}

impl Watchers {
    /// Begins to wait for news about an agent.
    pub(crate) fn watch(&self, id: AgentId) -> Watcher {
        let news = Arc::new(Notify::new());
        self.lock().entry(id.clone()).or_default().push(Arc::clone(&news));
        Watcher { id, news, watchers: self.clone() }
    }

    /// Wakes those for whom a newer state may be news.
    pub(super) fn tell(&self, before: &Snapshot, after: &Snapshot) {
        let waiting = self.lock();
        let wake = |news: &Vec<Arc<Notify>>| news.iter().for_each(|news| news.notify_one());
        // What everybody looks at beside what is its own.
        let is_for_all = before.incarnation != after.incarnation
            || !before.recovery.is_same(&after.recovery)
            || !before.heard.is_same(&after.heard)
            || before.desired.is_empty() != after.desired.is_empty();
        if is_for_all {
            return waiting.values().for_each(wake);
        }
        let told = after.desired.changes_since(&before.desired).into_iter().map(|change| change.key);
        let registered = after.agents.changes_since(&before.agents).into_iter().map(|change| change.key);
        let published = after.publications.changes_since(&before.publications).into_iter().map(|change| change.key);
        told.chain(registered).chain(published).filter_map(|id| waiting.get(id)).for_each(wake);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
