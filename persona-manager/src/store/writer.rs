//! The one writer: a thread that runs jobs on a draft. Those that came together are committed together and shown, by a second
//! thread, while this one drafts what came meanwhile on top.
//!
//! After the jobs of a batch a *pass* runs on the same draft: the assignment. So what a job changes and what follows
//! from it become durable in one transaction and are published together. While another manager leads, the thread shows
//! what that one commits, with the desired states that follow from it, and takes no jobs but those that are meant to be done
//! beside it ([`super::beside`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use persona_core::audit::EventHash;
use persona_core::wire::desired::DesiredState;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{Instrument, Span};

use super::committer::{Batch, Committer, LOOK_INTERVAL, Outcome, Stage};
use super::draft::Draft;
use super::measured::Measured;
use super::records::{AgentId, EventRecord};
use super::snapshot::Snapshot;
use super::traced::Published;
use super::trust::Trust;
use super::watchers::Watchers;
use super::{Backend, Standing, StoreError, Trouble, audit, beside};
use crate::access;
use crate::clock::now_ms;
use crate::error::{Kind, Refusal};
use crate::tasks::recovery;
use crate::telemetry::TARGET;

/// Jobs that may wait for the writer.
const QUEUE_LENGTH_MAX: usize = 1024;

/// Jobs that one transaction may take.
const BATCH_LENGTH_MAX: usize = 256;

/// What runs on every draft after its jobs.
pub(crate) type Pass = Box<dyn FnMut(&mut Draft) -> Rest + Send>;

/// What a pass leaves to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It has looked at all that it was to.
    Nothing,
    /// It has to be asked again at once.
    Something,
}

/// The desired states that agents have.
pub(crate) type Desired = BTreeMap<AgentId, Arc<DesiredState>>;

/// What a store's thread is given beside the backend.
pub(crate) struct Brain {
    /// Runs on every draft after its jobs.
    pub pass: Pass,
    /// Computes the desired states that another manager has published.
    pub mirror: Box<dyn FnMut(&Snapshot) -> Desired + Send>,
    /// Told when this manager takes the lead: what it knows of agents is old.
    pub begin: Box<dyn FnMut() + Send>,
    /// Told when what a pass decided was not stored.
    pub fail: Box<dyn FnMut() + Send>,
}

pub(super) type Answer = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

/// A change that waits for the writer.
struct Job {
    run: Box<dyn FnOnce(&mut Draft) -> Answer + Send>,
    /// Whether it is done although another manager leads.
    is_beside: bool,
    /// What it is part of; none where nobody traces.
    span: Span,
}

impl Job {
    fn run(self, draft: &mut Draft) -> Answer {
        self.span.in_scope(|| (self.run)(draft))
    }
}

/// A handle to the store; clones share it.
///
/// The reader goes before the queue: once the writer has ended, nobody has the store's files open.
#[derive(Clone)]
pub(crate) struct Store {
    reader: Arc<Mutex<Box<dyn Backend>>>,
    jobs: mpsc::Sender<Job>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    trust: watch::Receiver<Trust>,
    standing: watch::Receiver<Standing>,
    measured: Measured,
    published: Published,
    watchers: Watchers,
    trouble: watch::Receiver<Option<Failure>>,
    waker: Option<Arc<Notify>>,
}

/// A batch that was not stored.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// When.
    pub at: Instant,
    /// What callers were told.
    pub detail: String,
}

impl Store {
    /// Loads the state and starts the writer thread. It ends when the last handle is gone.
    pub(crate) fn start(
        mut backend: Box<dyn Backend>,
        reader: Box<dyn Backend>,
        brain: Brain,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let standing = backend.stand()?;
        let mut snapshot = backend.load()?;
        let (jobs, queue) = mpsc::channel(QUEUE_LENGTH_MAX);
        let mut brain = brain;
        if !standing.leads() {
            snapshot.desired = (brain.mirror)(&snapshot).into_iter().collect();
            snapshot.is_mirror = true;
        }
        let (trust_sender, trust) = watch::channel(Trust::of(&snapshot));
        let (snapshot_sender, snapshots) = watch::channel(Arc::new(snapshot));
        let (standing_sender, standing) = watch::channel(standing);
        let said = String::new();
        let (checked, measured, published) = (Instant::now(), Measured::default(), Published::default());
        let watchers = Watchers::default();
        let (trouble_sender, trouble) = watch::channel(None);
        let waker = backend.waker();
        let committer = Committer::start(Stage {
            backend,
            snapshots: snapshot_sender,
            trust: trust_sender,
            measured: measured.clone(),
            published: published.clone(),
            watchers: watchers.clone(),
            trouble: trouble_sender,
            said,
            checked,
        })?;
        let writer = Writer {
            queue,
            standing: standing_sender,
            brain,
            measured: measured.clone(),
            tip: None,
            committer,
            process: crate::auth::random_hex::<8>(),
            opening: Opening::Unknown,
            rest: Rest::Nothing,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(StoreError::Thread)?;
        let reader = Arc::new(Mutex::new(reader));
        Ok((Self { reader, jobs, snapshots, trust, standing, measured, published, watchers, trouble, waker }, thread))
    }

    /// The newest committed state.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// A receiver that sees every newer state.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// A receiver that sees whenever roots or revocations change.
    pub(crate) fn trust(&self) -> watch::Receiver<Trust> {
        self.trust.clone()
    }

    /// Whether this manager writes.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// The last batch that was not stored, until another one is.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.trouble.borrow().clone()
    }

    /// What the writer measures of its own work.
    pub(crate) fn measured(&self) -> &Measured {
        &self.measured
    }

    /// What was published and not acknowledged yet, where it is traced.
    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    /// Who waits for news about one agent.
    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Jobs that wait for the writer.
    pub(crate) fn waiting_count(&self) -> usize {
        QUEUE_LENGTH_MAX - self.jobs.capacity()
    }

    /// Runs `job` on the next draft, on behalf of whom the current task serves; its answer comes once everything is
    /// durable. A refusal leaves no trace.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Draft) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let is_beside = !self.standing.borrow().leads();
        if is_beside && !beside::is_meant() {
            return Err(refusal(Arc::new(StoreError::Fenced)));
        }
        let (sender, answer) = oneshot::channel();
        let (by, noted) = (access::current(), beside::outcome());
        let run = Box::new(move |draft: &mut Draft| -> Answer {
            let savepoint = draft.savepoint();
            draft.act_for(by);
            let outcome = job(draft);
            draft.act_for(access::Acting::default());
            if outcome.is_err() {
                draft.roll_back(savepoint);
            }
            Box::new(move |committed| {
                beside::note(&noted, &committed);
                let outcome = committed.map_err(refusal).and(outcome);
                // The caller may have gone away; the change is made all the same.
                _ = sender.send(outcome);
            })
        });
        let span = part_of(&Span::current(), || tracing::info_span!(target: TARGET, "store.change"));
        let job = Job { run, is_beside, span: span.clone() };
        self.jobs.try_send(job).map_err(|_| Refusal::busy("the store's queue is full; try again"))?;
        if let Some(waker) = self.waker.as_ref().filter(|_| is_beside) {
            waker.notify_one();
        }
        let answer = answer.instrument(span).await;
        answer.unwrap_or_else(|_| Err(Refusal::busy("the manager does not write to the store now; try again")))
    }

    /// Events after number `since`, oldest first.
    pub(crate) async fn events_after(&self, since: u64, limit: u32) -> Result<Vec<EventRecord>, Refusal> {
        let reader = self.reader.clone();
        let read = move || reader.lock().unwrap_or_else(PoisonError::into_inner).events_after(since, limit);
        let events = tokio::task::spawn_blocking(read).await;
        events.map_err(Refusal::internal_from)?.map_err(Refusal::internal_from)
    }
}

impl Store {
    /// The last event to be dropped for its age, and its hash. None: there are few enough.
    pub(crate) async fn drop_point(&self, kept: audit::Kept) -> Result<Option<(u64, EventHash)>, Refusal> {
        let (reader, snapshot) = (self.reader.clone(), self.snapshot());
        let read = move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            audit::drop_point(reader.as_mut(), &snapshot, kept)
        };
        let point = tokio::task::spawn_blocking(read).await;
        point.map_err(Refusal::internal_from)?.map_err(Refusal::internal_from)
    }
}

/// The thread's own.
struct Writer {
    queue: mpsc::Receiver<Job>,
    standing: watch::Sender<Standing>,
    brain: Brain,
    measured: Measured,
    /// The newest draft, which may not be durable yet. None: that is what is shown.
    tip: Option<Snapshot>,
    committer: Committer,
    /// A random name of this process, for its events.
    process: String,
    opening: Opening,
    rest: Rest,
}

/// What this process's first event in the lead follows.
#[derive(Clone, Copy)]
enum Opening {
    /// It was not looked up yet.
    Unknown,
    /// This hash, of which so many of the newest events have none of their own.
    After(EventHash, u64),
    /// It is written.
    Done,
}

impl Writer {
    fn run(mut self) {
        let went_back = match &*self.standing.borrow() {
            Standing::Leads { went_back } => Some(went_back.clone()),
            Standing::Follows { .. } => None,
        };
        let mut leads = went_back.is_some();
        if let Some(went_back) = went_back {
            self.take_lead(went_back);
        }
        loop {
            leads = match leads {
                true => match self.lead() {
                    Some(leads) => leads,
                    None => return,
                },
                false => match self.follow() {
                    Some(leads) => leads,
                    None => return,
                },
            };
        }
    }

    /// One batch. Returns whether this manager still leads; None: all handles are gone.
    fn lead(&mut self) -> Option<bool> {
        let mut batch = Vec::new();
        if self.rest == Rest::Nothing {
            batch.push(self.queue.blocking_recv()?);
        }
        // While two batches are under way, others come together for the next one.
        let outcome = self.committer.wait_for_room();
        if !self.take_outcome(outcome) {
            return Some(false);
        }
        while batch.len() < BATCH_LENGTH_MAX {
            match self.queue.try_recv() {
                Ok(job) => batch.push(job),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) if batch.is_empty() => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
        let outcome = self.write_batch(batch);
        Some(self.take_outcome(outcome))
    }

    /// Goes on from what is durable where a commit failed. Returns whether this manager still leads.
    fn take_outcome(&mut self, outcome: Outcome) -> bool {
        let Err(error) = outcome else { return true };
        _ = self.committer.settle(); // what was drafted on top has fallen too, and was told
        self.measured.failures.inc();
        (self.brain.fail)();
        // What is left is looked at when somebody asks next: the store may not work for long.
        (self.tip, self.rest) = (None, Rest::Nothing);
        let mut stage = self.committer.stage();
        if matches!(*error, StoreError::Outrun) {
            self.opening = Opening::Unknown;
            stage.catch_up();
        }
        // The state before stays in force; on a database another manager may lead by now.
        let revision = stage.snapshots.borrow().revision;
        let leads = stage.backend.confirm(revision).is_ok();
        drop(stage);
        if !leads {
            tracing::warn!("this manager leads no more");
            self.standing.send_replace(Standing::Follows { leader: None });
        }
        leads
    }

    /// Looks what the leader has committed, and whether there still is one. Returns whether this manager leads now.
    fn follow(&mut self) -> Option<bool> {
        self.tip = None;
        // Few jobs are for a manager that follows; others may have been under way.
        loop {
            match self.queue.try_recv() {
                Ok(job) if job.is_beside => self.write_beside(job),
                Ok(job) => drop(job),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
            }
        }
        let mut stage = self.committer.stage();
        match Self::look(&mut stage, &self.standing, &mut self.brain) {
            Ok(Some(went_back)) => {
                stage.tell(Ok(()));
                drop(stage);
                self.take_lead(went_back);
                return Some(true);
            }
            Ok(None) => stage.tell(Ok(())),
            Err(error) => stage.tell(Err(Arc::new(error))),
        }
        stage.backend.wait(LOOK_INTERVAL);
        Some(false)
    }

    /// Shows what the leader has committed. Some: this manager leads from now on.
    fn look(
        stage: &mut Stage,
        standing: &watch::Sender<Standing>,
        brain: &mut Brain,
    ) -> Result<Option<Option<String>>, StoreError> {
        let stands = stage.backend.stand()?;
        if let Standing::Leads { went_back } = stands {
            let snapshot = stage.backend.load()?;
            stage.show(snapshot);
            return Ok(Some(went_back));
        }
        standing.send_if_modified(|known| std::mem::replace(known, stands.clone()) != stands);
        Self::mirror(stage, brain)?;
        Ok(None)
    }

    /// Shows what another manager has committed, with the desired states that follow from it.
    fn mirror(stage: &mut Stage, brain: &mut Brain) -> Result<(), StoreError> {
        let known = stage.snapshots.borrow().clone();
        if let Some(mut newer) = stage.backend.catch_up(&known)? {
            newer.desired = (brain.mirror)(&newer).into_iter().collect();
            newer.is_mirror = true;
            stage.show(newer);
        }
        Ok(())
    }

    /// Does one job although another manager leads, on the newest state and on nothing else. What follows from it is that one's, or
    /// that of who leads next.
    fn write_beside(&mut self, job: Job) {
        let newest = Self::mirror(&mut self.committer.stage(), &mut self.brain);
        let base = Snapshot::clone(&self.committer.stage().snapshots.borrow());
        let mut draft = Draft::new(&base, now_ms());
        // Whoever wrote the event before was another process.
        self.opening = Opening::Unknown;
        let begun = newest.map_err(Arc::new).and_then(|()| self.begin_events(&mut draft));
        let answer = job.run(&mut draft);
        let (snapshot, writes, events) = draft.finish();
        let mut stage = self.committer.stage();
        let committed = begun.and_then(|()| match writes.is_empty() && events.is_empty() {
            true => Ok(()),
            false => stage.backend.commit_beside(snapshot.revision, &writes, &events).map_err(Arc::new),
        });
        if committed.is_ok() {
            stage.show(snapshot);
        }
        drop(stage);
        answer(committed);
    }

    fn take_lead(&mut self, went_back: Option<String>) {
        (self.brain.begin)();
        (self.opening, self.tip, self.rest) = (Opening::Unknown, None, Rest::Nothing);
        self.committer.stage().checked = Instant::now();
        if let Some(reason) = &went_back {
            let reason = reason.clone();
            let run = Box::new(move |draft: &mut Draft| -> Answer {
                recovery::begin(draft, 0, &reason);
                Box::new(|_| {})
            });
            let written = self.write_batch(vec![Job { run, is_beside: false, span: Span::none() }]);
            let outcome = written.and_then(|()| self.committer.settle());
            if outcome.is_err() {
                // It was told, and the next batch goes on from there.
                (self.tip, self.rest) = (None, Rest::Nothing);
            }
        }
        let revision = self.committer.stage().snapshots.borrow().generation();
        tracing::info!(store.revision = %revision, "this manager writes to the store");
        self.standing.send_replace(Standing::Leads { went_back });
    }

    /// Drafts a batch and hands it over. An error is one of what events go on from: of looking it up, or of the first of them.
    fn write_batch(&mut self, batch: Vec<Job>) -> Outcome {
        let is_fresh = self.tip.is_none();
        let base = self.tip.take().unwrap_or_else(|| Snapshot::clone(&self.committer.stage().snapshots.borrow()));
        let mut draft = Draft::new(&base, now_ms());
        drop(base);
        if let Err(error) = self.begin_events(&mut draft) {
            self.committer.stage().tell(Err(error.clone()));
            // Jobs say what they would have answered; that they were not stored goes before it.
            batch.into_iter().for_each(|job| job.run(&mut draft)(Err(error.clone())));
            return Err(error);
        }
        let spans: Vec<Span> = batch.iter().map(|job| job.span.clone()).filter(|span| !span.is_disabled()).collect();
        let answers: Vec<Answer> = batch.into_iter().map(|job| job.run(&mut draft)).collect();
        let begun = Instant::now();
        let span = of_all(&spans, || tracing::info_span!(target: TARGET, "pass"));
        self.rest = span.in_scope(|| (self.brain.pass)(&mut draft));
        self.measured.passes.observe(begun.elapsed().as_secs_f64());
        let (snapshot, writes, events) = draft.finish();
        let begins = !events.is_empty() && !matches!(self.opening, Opening::Done);
        self.tip = Some(snapshot.clone());
        self.committer.commit(Batch { snapshot, writes, events, answers, spans, is_fresh });
        if begins {
            self.committer.settle()?;
            self.opening = Opening::Done;
        }
        Ok(())
    }

    /// Has the first event of this process in the lead say so.
    fn begin_events(&mut self, draft: &mut Draft) -> Result<(), Arc<StoreError>> {
        if let Opening::Unknown = self.opening {
            let mut stage = self.committer.stage();
            let (head, unchained) = audit::head(stage.backend.as_mut(), draft.state()).map_err(Arc::new)?;
            self.opening = Opening::After(head, unchained);
        }
        if let Opening::After(head, unchained) = self.opening {
            draft.begin_events(&self.process, head, unchained);
        }
        Ok(())
    }
}

/// A span inside another; none where that one is none.
fn part_of(outer: &Span, make: impl FnOnce() -> Span) -> Span {
    if outer.is_disabled() { Span::none() } else { outer.in_scope(make) }
}

/// A span of what is done for several changes together: it is part of the first one's trace, and linked to the others'.
pub(super) fn of_all(changes: &[Span], make: impl FnOnce() -> Span) -> Span {
    let Some((first, others)) = changes.split_first() else { return Span::none() };
    let span = part_of(first, make);
    others.iter().for_each(|other| _ = span.follows_from(other));
    span
}

/// What callers are told whose changes could not be stored.
pub(super) fn refusal(error: Arc<StoreError>) -> Refusal {
    let unavailable = |detail: &str| Refusal::new(Kind::StoreUnavailable, detail);
    match error.trouble() {
        Trouble::Full => Refusal::new(
            Kind::StoreFull,
            "nothing of this was stored, for the store's disk is full: free space there, then try again",
        ),
        Trouble::Unavailable => unavailable(
            "nothing of this was stored, for the store takes no changes from this manager now: its log has the cause; try again",
        ),
        Trouble::Unknown => unavailable(
            "whether this was stored is not known, for the database did not answer: look before trying again",
        ),
        Trouble::Other => Refusal::internal(anyhow::Error::new(error)),
    }
}
