//! Keeps the limits of all workloads of a node: a task that gives each of them its turn, once a second and on news.
//!
//! A workload whose memory shrinks takes its time in a thread of its own; the others are not held up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use persona_core::ids::WorkloadName;
use persona_core::wire::limits::{LimitReport, LimitState, SubjectResources};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::{InstanceConfig, LimitsConfig};
use super::record_file::Records;
use super::workload::{Common, Limited, Told, Wish};
use crate::bulletin::Bulletin;

/// Changes by others are found within this time.
const TURN_INTERVAL: Duration = Duration::from_secs(1);

/// Workloads whose turns may be under way at once; the others wait for theirs.
const TURN_COUNT_MAX: usize = 16;

/// What every workload wears. None: not known yet.
type Worn = Option<Arc<BTreeMap<WorkloadName, SubjectResources>>>;

/// The limits of a node's workloads.
#[derive(Debug)]
pub struct Keeper {
    worn: watch::Sender<Worn>,
    bulletin: Bulletin<WorkloadName, LimitReport, (WorkloadName, Told)>,
}

impl Keeper {
    /// Starts to keep these workloads' limits, and those of workloads that only have a record. Ends with `stop`; limits stay
    /// as they are.
    pub fn start(
        instances: BTreeMap<WorkloadName, Option<InstanceConfig>>,
        config: LimitsConfig,
        state_dir: &Path,
        stop: &CancellationToken,
    ) -> Self {
        let records = Records::in_directory(state_dir);
        let recorded: BTreeSet<WorkloadName> = records.workloads().into_iter().collect();
        let common = Arc::new(Common::new(config, records));
        let names: BTreeSet<&WorkloadName> = instances.keys().chain(&recorded).collect();
        let limited = names.into_iter().map(|name| {
            let instance = instances.get(name).cloned().flatten();
            (name.clone(), Limited::new(name.clone(), instance, Arc::clone(&common)))
        });
        let idle = limited.collect();
        let (worn, receiver) = watch::channel(None);
        let bulletin = Bulletin::default();
        let wishes = Arc::new(Wishes::of(None));
        let rounds = Rounds { common, idle, busy: JoinSet::new(), worn: receiver, wishes, bulletin: bulletin.clone() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(rounds.run()));
        Self { worn, bulletin }
    }

    /// Says what every workload wears. One that is missing wears no limits.
    pub fn want(&self, worn: BTreeMap<WorkloadName, SubjectResources>) {
        self.worn.send_if_modified(|current| {
            let is_new = current.as_deref() != Some(&worn);
            if is_new {
                *current = Some(Arc::new(worn));
            }
            is_new
        });
    }

    /// How every workload's limits stand, if some were looked at since `seen` was set by this.
    pub fn reports_since(&self, seen: &mut u64) -> Option<Vec<LimitReport>> {
        self.bulletin.reports_since(seen)
    }

    /// What happened since this was last asked.
    pub fn take_told(&self) -> Vec<(WorkloadName, Told)> {
        self.bulletin.take_told()
    }
}

struct Rounds {
    common: Arc<Common>,
    idle: BTreeMap<WorkloadName, Limited>,
    busy: JoinSet<(WorkloadName, Limited, LimitReport)>,
    worn: watch::Receiver<Worn>,
    wishes: Arc<Wishes>,
    bulletin: Bulletin<WorkloadName, LimitReport, (WorkloadName, Told)>,
}

/// What is wanted of every workload. Made when that changes: a round in which nothing is to do copies nothing.
#[derive(Debug)]
struct Wishes {
    worn: BTreeMap<WorkloadName, Wish>,
    others: Wish,
}

impl Wishes {
    fn of(worn: Option<&BTreeMap<WorkloadName, SubjectResources>>) -> Self {
        let wears = |(name, worn): (&WorkloadName, &SubjectResources)| (name.clone(), Wish::Wears(worn.clone()));
        let others = if worn.is_some() { Wish::Nothing } else { Wish::Unknown };
        Self { worn: worn.into_iter().flatten().map(wears).collect(), others }
    }

    fn get(&self, name: &WorkloadName) -> &Wish {
        self.worn.get(name).unwrap_or(&self.others)
    }
}

impl Rounds {
    async fn run(mut self) {
        let mut interval = tokio::time::interval(TURN_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                changed = self.worn.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.wishes = Arc::new(Wishes::of(self.worn.borrow_and_update().as_deref()));
                }
                Some(done) = self.busy.join_next() => { self.take(done); continue }
            }
            self.give_turns().await;
        }
    }

    /// A turn for everybody whose last one is over and who is not settled.
    async fn give_turns(&mut self) {
        let (mut idle, common) = (std::mem::take(&mut self.idle), Arc::clone(&self.common));
        let wishes = Arc::clone(&self.wishes);
        let sorted = tokio::task::spawn_blocking(move || {
            common.read_writes();
            let due = idle.extract_if(.., |name, limited| !limited.is_settled(wishes.get(name)));
            (due.collect::<Vec<_>>(), idle)
        });
        let due = match sorted.await {
            Ok((due, settled)) => {
                self.idle = settled;
                due
            }
            Err(error) => return tracing::error!(%error, "limits are no longer kept until the next start"),
        };
        for (name, mut limited) in due {
            while self.busy.len() >= TURN_COUNT_MAX {
                if let Some(done) = self.busy.join_next().await {
                    self.take(done);
                }
            }
            let wishes = Arc::clone(&self.wishes);
            self.busy.spawn_blocking(move || {
                let report = limited.turn(wishes.get(&name));
                (name, limited, report)
            });
        }
    }

    fn take(&mut self, done: Result<(WorkloadName, Limited, LimitReport), tokio::task::JoinError>) {
        let (name, mut limited, report) = match done {
            Ok(done) => done,
            Err(error) => return tracing::error!(%error, "a workload's limits are no longer kept until the next start"),
        };
        let told = limited.take_told().into_iter().map(|told| (name.clone(), told));
        self.bulletin.post(name.clone(), report, told);
        self.idle.insert(name, limited);
    }
}

/// What became of one workload's limits.
#[derive(Debug)]
pub struct Restored {
    /// Whose.
    pub workload: WorkloadName,
    /// Whether they are as before the first persona, or why not.
    pub outcome: Result<(), String>,
}

/// Puts back the limits of every workload that has a record below a state directory. For hosts whose agent is stopped.
pub fn restore_everything(state_dir: &Path) -> Vec<Restored> {
    let records = Records::in_directory(state_dir);
    let common = Arc::new(Common::new(LimitsConfig::default(), records.clone()));
    let restored = records.workloads().into_iter().map(|workload| {
        let report = Limited::new(workload.clone(), None, Arc::clone(&common)).turn(&Wish::Nothing);
        let failed = report.state == LimitState::Failed;
        let outcome = if failed { Err(report.reason.unwrap_or_default()) } else { Ok(()) };
        Restored { workload, outcome }
    });
    restored.collect()
}
