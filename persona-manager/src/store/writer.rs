//! The one writer: a thread that runs jobs on a draft, commits those that came together, and shows the result.
//!
//! After the jobs of a batch a *pass* runs on the same draft: the assignment. So what a job changes and what follows
//! from it become durable in one transaction and are published together.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use super::draft::Draft;
use super::records::EventRecord;
use super::snapshot::Snapshot;
use super::{Backend, StoreError};
use crate::access;
use crate::clock::now_ms;
use crate::error::Refusal;

/// Jobs that may wait for the writer.
const QUEUE_LENGTH_MAX: usize = 1024;

/// Jobs that one transaction may take.
const BATCH_LENGTH_MAX: usize = 256;

/// What runs on every draft after its jobs.
pub(crate) type Pass = Box<dyn FnMut(&mut Draft) + Send>;

type Answer = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;
type Job = Box<dyn FnOnce(&mut Draft) -> Answer + Send>;

/// A handle to the store; clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    reader: Arc<Mutex<Box<dyn Backend>>>,
}

impl Store {
    /// Loads the state and starts the writer thread. It ends when the last handle is gone.
    pub(crate) fn start(
        mut backend: impl Backend,
        reader: impl Backend,
        pass: Pass,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let (sender, snapshots) = watch::channel(Arc::new(backend.load()?));
        let (jobs, queue) = mpsc::channel(QUEUE_LENGTH_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_batches(backend, queue, &sender, pass))
            .map_err(StoreError::Thread)?;
        Ok((Self { jobs, snapshots, reader: Arc::new(Mutex::new(Box::new(reader))) }, thread))
    }

    /// The newest committed state.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// A receiver that sees every newer state.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Runs `job` on the next draft, on behalf of whom the current task serves; its answer comes once everything is durable. A refusal leaves no trace.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Draft) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        let actor = access::actor();
        let job: Job = Box::new(move |draft| {
            let savepoint = draft.savepoint();
            draft.act_for(actor);
            let outcome = job(draft);
            draft.act_for(access::MANAGER.into());
            if outcome.is_err() {
                draft.roll_back(savepoint);
            }
            Box::new(move |committed| {
                let outcome = committed.map_err(|error| Refusal::internal(anyhow::Error::new(error))).and(outcome);
                // The caller may have gone away; the change is made all the same.
                _ = sender.send(outcome);
            })
        });
        self.jobs.try_send(job).map_err(|_| Refusal::busy("the store's queue is full; try again"))?;
        answer.await.unwrap_or_else(|_| Err(Refusal::busy("the manager is stopping")))
    }

    /// Events after number `since`, oldest first.
    pub(crate) async fn events_after(&self, since: u64, limit: u32) -> Result<Vec<EventRecord>, Refusal> {
        let reader = self.reader.clone();
        let read = move || reader.lock().unwrap_or_else(PoisonError::into_inner).events_after(since, limit);
        let events = tokio::task::spawn_blocking(read).await;
        events.map_err(Refusal::internal_from)?.map_err(Refusal::internal_from)
    }
}

fn write_batches(
    mut backend: impl Backend,
    mut queue: mpsc::Receiver<Job>,
    snapshots: &watch::Sender<Arc<Snapshot>>,
    mut pass: Pass,
) {
    let mut batch = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH_LENGTH_MAX
            && let Ok(job) = queue.try_recv()
        {
            batch.push(job);
        }
        write_batch(&mut backend, batch.drain(..), snapshots, &mut pass);
    }
}

fn write_batch(
    backend: &mut impl Backend,
    batch: impl Iterator<Item = Job>,
    snapshots: &watch::Sender<Arc<Snapshot>>,
    pass: &mut Pass,
) {
    let mut draft = Draft::new(&snapshots.borrow(), now_ms());
    let answers: Vec<Answer> = batch.map(|job| job(&mut draft)).collect();
    pass(&mut draft);
    let (snapshot, writes, events) = draft.finish();
    let committed = match writes.is_empty() && events.is_empty() {
        true => Ok(()),
        false => backend.commit(snapshot.revision, &writes, &events).map_err(Arc::new),
    };
    match &committed {
        Ok(()) => show(snapshots, snapshot),
        Err(error) => tracing::error!(error = ?error, "changes could not be stored; the state before them stays"),
    }
    answers.into_iter().for_each(|answer| answer(committed.clone()));
}

/// Shows a new snapshot; one that says nothing new wakes nobody.
fn show(snapshots: &watch::Sender<Arc<Snapshot>>, new: Snapshot) {
    snapshots.send_if_modified(|shown| {
        let is_new = shown.revision != new.revision || !Arc::ptr_eq(&shown.desired, &new.desired);
        if is_new {
            *shown = Arc::new(new);
        }
        is_new
    });
}
