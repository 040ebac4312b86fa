//! Makes what the writer has drafted durable, in a thread of its own, shows it, and answers. Meanwhile the writer drafts what
//! comes next on top of it; where a commit fails, what was drafted on top falls with it.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::Span;

use super::measured::Measured;
use super::records::EventRecord;
use super::snapshot::Snapshot;
use super::traced::Published;
use super::trust::Trust;
use super::watchers::Watchers;
use super::write::Write;
use super::writer::{Answer, Failure, of_all, refusal};
use super::{Backend, StoreError};
use crate::telemetry::TARGET;

/// A manager that follows looks at least this often, and one that leads makes sure that it still does.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Batches that may be drafted and not durable: one that is being committed, and one that is drafted on top of it.
const UNDER_WAY_COUNT_MAX: usize = 2;

/// What is committed together.
pub(super) struct Batch {
    pub(super) snapshot: Snapshot,
    pub(super) writes: Vec<Write>,
    pub(super) events: Vec<EventRecord>,
    pub(super) answers: Vec<Answer>,
    pub(super) spans: Vec<Span>,
    /// Whether it rests on what is durable, and not on a batch before it.
    pub(super) is_fresh: bool,
}

/// What became of a batch.
pub(super) type Outcome = Result<(), Arc<StoreError>>;

/// The backend, and all that is told of it.
pub(super) struct Stage {
    pub(super) backend: Box<dyn Backend>,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) trust: watch::Sender<Trust>,
    pub(super) measured: Measured,
    pub(super) published: Published,
    pub(super) watchers: Watchers,
    pub(super) trouble: watch::Sender<Option<Failure>>,
    /// The trouble that was said last.
    pub(super) said: String,
    /// When the lead was last confirmed.
    pub(super) checked: Instant,
}

/// The writer's way to the thread that commits.
pub(super) struct Committer {
    stage: Arc<Mutex<Stage>>,
    batches: Option<SyncSender<Batch>>,
    outcomes: Receiver<Outcome>,
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread; it ends with this.
    pub(super) fn start(stage: Stage) -> Result<Self, StoreError> {
        let stage = Arc::new(Mutex::new(stage));
        let (batches, queue) = sync_channel(UNDER_WAY_COUNT_MAX);
        let (told, outcomes) = channel();
        let of_thread = Arc::clone(&stage);
        let thread = std::thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || run(&of_thread, &queue, &told))
            .map_err(StoreError::Thread)?;
        Ok(Self { stage, batches: Some(batches), outcomes, under_way: 0, thread: Some(thread) })
    }

    /// The backend and what is told, once nothing is being committed.
    pub(super) fn stage(&self) -> MutexGuard<'_, Stage> {
        lock(&self.stage)
    }

    /// Waits until another batch may be drafted. The error is that of a batch before.
    pub(super) fn wait_for_room(&mut self) -> Outcome {
        self.wait_below(UNDER_WAY_COUNT_MAX)
    }

    /// Waits until nothing is under way.
    pub(super) fn settle(&mut self) -> Outcome {
        self.wait_below(1)
    }

    fn wait_below(&mut self, count: usize) -> Outcome {
        let mut all = Ok(());
        while self.under_way > 0 {
            let outcome = match self.under_way < count && all.is_ok() {
                true => match self.outcomes.try_recv() {
                    Ok(outcome) => outcome,
                    Err(_) => return all, // nothing more is known yet
                },
                // After a failure all that was drafted on top falls: the writer goes on when it has.
                false => self.outcomes.recv().expect("the committer ends after the writer"),
            };
            self.under_way -= 1;
            all = all.and(outcome);
        }
        all
    }

    /// Hands a batch over.
    pub(super) fn commit(&mut self, batch: Batch) {
        self.under_way += 1;
        let batches = self.batches.as_ref().expect("it is there until this is dropped");
        batches.send(batch).unwrap_or_else(|_| panic!("the committer ends after the writer"));
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join(); // it has told why it panicked
        }
    }
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(stage: &Mutex<Stage>, queue: &Receiver<Batch>, told: &Sender<Outcome>) {
    let mut broken: Option<Arc<StoreError>> = None;
    while let Ok(batch) = queue.recv() {
        if batch.is_fresh {
            broken = None;
        }
        let outcome = match &broken {
            Some(error) => {
                batch.answers.into_iter().for_each(|answer| answer(Err(error.clone())));
                Err(error.clone())
            }
            None => lock(stage).take(batch),
        };
        broken = outcome.as_ref().err().cloned();
        if told.send(outcome).is_err() {
            return;
        }
    }
}

impl Stage {
    fn take(&mut self, batch: Batch) -> Outcome {
        let Batch { snapshot, writes, events, answers, spans, is_fresh: _ } = batch;
        let is_empty = writes.is_empty() && events.is_empty();
        let committed = match is_empty {
            true if self.checked.elapsed() < LOOK_INTERVAL => Ok(()),
            true => self.backend.confirm(snapshot.revision),
            false => self.commit(&spans, snapshot.revision, &writes, &events),
        };
        let committed = committed.map_err(Arc::new);
        if committed.is_ok() {
            if !writes.is_empty() {
                let shown = self.snapshots.borrow().clone();
                self.published.follow((&shown, &snapshot), spans.first());
            }
            if !is_empty || self.checked.elapsed() >= LOOK_INTERVAL {
                self.checked = Instant::now();
            }
            self.show(snapshot);
        }
        // Who is refused and then asks whether the store works is told of the same trouble. That nothing had to be stored says
        // nothing of the store.
        if !is_empty || committed.is_err() {
            self.tell(committed.clone());
        }
        answers.into_iter().for_each(|answer| answer(committed.clone()));
        committed
    }

    fn commit(
        &mut self,
        spans: &[Span],
        revision: u64,
        writes: &[Write],
        events: &[EventRecord],
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let span = || {
            tracing::info_span!(target: TARGET, "store.commit",
                persona.revision = revision, persona.write_count = writes.len(), persona.event_count = events.len())
        };
        let committed = of_all(spans, span).in_scope(|| self.backend.commit(revision, writes, events));
        self.measured.commits.observe(begun.elapsed().as_secs_f64());
        if committed.is_ok() {
            self.trouble.send_if_modified(|failure| failure.take().is_some());
        }
        committed
    }

    /// Takes in what others committed while this manager leads. What had been decided meanwhile was refused, and is decided anew.
    pub(super) fn catch_up(&mut self) {
        tracing::info!("another manager has decided what one subject asked for: going on from there");
        let known = self.snapshots.borrow().clone();
        match self.backend.catch_up(&known) {
            Ok(newer) => newer.into_iter().for_each(|newer| self.show(newer)),
            // What comes next is outrun again, or the lead is lost.
            Err(error) => self.tell(Err(Arc::new(error))),
        }
    }

    /// Shows a new snapshot; one that says nothing new wakes nobody.
    pub(super) fn show(&self, new: Snapshot) {
        let shown = self.snapshots.borrow().clone();
        let is_new = (shown.incarnation, shown.revision) != (new.incarnation, new.revision)
            || !shown.desired.is_same(&new.desired);
        if is_new {
            let new = Arc::new(new);
            self.snapshots.send_replace(Arc::clone(&new));
            self.trust.send_if_modified(|known| known.follow(&new));
            self.watchers.tell(&shown, &new);
        }
    }

    /// A pass runs several times a second: the same trouble is said once.
    pub(super) fn tell(&mut self, outcome: Outcome) {
        match outcome {
            Ok(()) if self.said.is_empty() => {}
            Ok(()) => {
                tracing::info!("the store works again");
                self.said.clear();
            }
            Err(error) => {
                let detail = refusal(error.clone()).detail().to_owned();
                self.trouble.send_replace(Some(Failure { at: Instant::now(), detail }));
                let text = format!("{error:?}");
                if self.said != text {
                    tracing::error!(error.cause = text, "the store failed; the state before stays in force");
                    self.said = text;
                }
            }
        }
    }
}
