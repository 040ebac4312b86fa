//! What every guest said last; all copies are one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use persona_core::ids::WorkloadName;
use persona_core::wire::guest::GuestTell;

/// A guest that said nothing for so long is not there.
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// Values that are older are nobody's: agents inside look once a second.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// What guests said.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<BTreeMap<WorkloadName, Standing>>>);

#[derive(Debug, Default)]
struct Standing {
    said: Option<(Instant, GuestTell)>,
    /// Why nothing is heard.
    trouble: Option<String>,
}

impl Heard {
    /// A guest has spoken.
    pub(super) fn note(&self, workload: &WorkloadName, tell: GuestTell) {
        let standing = Standing { said: Some((Instant::now(), tell)), trouble: None };
        self.lock().insert(workload.clone(), standing);
    }

    /// A guest cannot be heard. Returns whether that is news.
    pub(super) fn note_trouble(&self, workload: &WorkloadName, why: &str) -> bool {
        let mut all = self.lock();
        let standing = all.entry(workload.clone()).or_default();
        let is_new = standing.trouble.as_deref() != Some(why);
        standing.trouble = Some(why.to_owned());
        is_new
    }

    /// What a guest said last, or why it is not heard.
    pub(super) fn last(&self, workload: &WorkloadName) -> Result<GuestTell, String> {
        let all = self.lock();
        let standing = all.get(workload);
        let said = standing.and_then(|standing| standing.said.as_ref());
        match said.filter(|(at, _)| at.elapsed() < SILENT_AFTER) {
            Some((_, tell)) => Ok(tell.clone()),
            None => {
                let why = standing.and_then(|standing| standing.trouble.as_deref());
                let why = why.unwrap_or("start persona-ctl agent --guest in it");
                Err(format!("the agent inside the guest is not heard: {why}"))
            }
        }
    }

    /// What each guest measured just now, under the names of its own system.
    pub(crate) fn values(&self) -> Vec<(WorkloadName, BTreeMap<String, f64>)> {
        let all = self.lock();
        let fresh = all.iter().filter_map(|(workload, standing)| {
            let (at, tell) = standing.said.as_ref()?;
            (at.elapsed() < STALE_AFTER).then(|| (workload.clone(), tell.values.clone()))
        });
        fresh.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkloadName, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
