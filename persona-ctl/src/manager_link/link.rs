//! The two tasks behind a node's or edge's link: one keeps the watch stream open, one sends reports.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use persona_core::wire::agent::Register;
use persona_core::wire::desired::{DesiredState, Frame};
use tokio::sync::{Notify, RwLock, watch};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::client::{LinkError, ManagerClient};
use super::identity::Identity;
use super::outbox::Outbox;

/// Reports go out this often until the manager has said how often it wants them.
const REPORT_INTERVAL_MS: u32 = 1_000;

/// A stream that breaks sooner counts as a failed attempt: two agents under one name would else take turns without pause.
const STREAM_LASTS: Duration = Duration::from_secs(2);

/// Where the manager is and who asks.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The manager's URL.
    pub manager: String,
    /// Where key, bearer and the last state are kept.
    pub state_dir: PathBuf,
    /// What to register; the public key is filled in here.
    pub register: Register,
}

/// The running link.
#[derive(Debug)]
pub struct Link {
    /// The newest desired state; generation zero before the first.
    pub desired: watch::Receiver<DesiredState>,
    /// Counts the whole states that the manager has sent to this process; changes after `desired` has.
    pub snapshots: watch::Receiver<u64>,
    refresh: Arc<Notify>,
    outbox: Arc<Mutex<Outbox>>,
    wake: Arc<Notify>,
    session: Arc<Session>,
}

impl Link {
    /// Registers again, from another underlay address. Without a join token that is still good the manager keeps the old one.
    pub async fn set_address(&self, address: IpAddr) {
        let mut register = self.session.register.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if register.address == address {
            return;
        }
        register.address = address;
        *self.session.register.lock().unwrap_or_else(PoisonError::into_inner) = register;
        self.session.forget().await;
        self.wake.notify_one();
    }

    /// Asks for the whole state anew, in a stream of its own.
    pub fn ask_for_snapshot(&self) {
        self.refresh.notify_one();
    }

    /// Changes what is reported, and has it sent at once.
    pub fn report_now(&self, change: impl FnOnce(&mut Outbox)) {
        self.report_next(change);
        self.wake.notify_one();
    }

    /// Changes what is reported with the next report.
    pub fn report_next(&self, change: impl FnOnce(&mut Outbox)) {
        change(&mut self.outbox.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Starts the link's tasks on the current runtime; they end when `stop` is cancelled.
pub fn start(config: LinkConfig, stop: &CancellationToken) -> Result<Link, LinkError> {
    let identity = Identity::open(&config.state_dir)?;
    let register = Register { public_key: identity.public_key(), ..config.register };
    let session = Arc::new(Session {
        client: ManagerClient::new(&config.manager)?,
        register: Mutex::new(register),
        report_interval_ms: AtomicU32::new(REPORT_INTERVAL_MS),
        identity: RwLock::new(Standing { identity, is_fresh: false }),
    });
    let (sender, desired) = watch::channel(DesiredState::default());
    let (snapshot_sender, snapshots) = watch::channel(0);
    let sender = Senders { desired: sender, snapshots: snapshot_sender, refresh: Arc::default() };
    let (outbox, wake, refresh) = (Arc::default(), Arc::default(), Arc::clone(&sender.refresh));
    let link = Link { desired, snapshots, refresh, outbox, wake, session: Arc::clone(&session) };
    let (outbox, wake) = (Arc::clone(&link.outbox), Arc::clone(&link.wake));
    tokio::spawn({
        let (session, stop) = (Arc::clone(&session), stop.clone());
        async move { stop.run_until_cancelled_owned(keep_watching(&session, &sender)).await }
    });
    let stop = stop.clone();
    tokio::spawn(async move { stop.run_until_cancelled_owned(keep_reporting(&session, &outbox, &wake)).await });
    Ok(link)
}

/// What the watching task tells, and is told.
#[derive(Debug)]
struct Senders {
    desired: watch::Sender<DesiredState>,
    snapshots: watch::Sender<u64>,
    refresh: Arc<Notify>,
}

#[derive(Debug)]
struct Session {
    client: ManagerClient,
    register: Mutex<Register>,
    report_interval_ms: AtomicU32,
    identity: RwLock<Standing>,
}

/// The identity, and whether this process has shown itself to the manager with what it offers now.
#[derive(Debug)]
struct Standing {
    identity: Identity,
    is_fresh: bool,
}

impl Session {
    /// Registers if this process has not yet. A join token that is used up does no harm while the bearer is good.
    async fn ready(&self) -> Result<(), LinkError> {
        if self.identity.read().await.is_fresh {
            return Ok(());
        }
        let mut standing = self.identity.write().await;
        if standing.is_fresh {
            return Ok(());
        }
        let register = self.register.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.client.register(&register).await {
            Ok(registered) => {
                self.report_interval_ms.store(registered.report_interval_ms.max(10), Ordering::Relaxed);
                standing.identity.set_bearer(registered.bearer)?;
                tracing::info!(name = register.name, "registered with the manager");
            }
            Err(error @ LinkError::Refused { .. }) if standing.identity.bearer().is_some() => {
                tracing::info!(%error, "not registered again; going on with the bearer at hand");
            }
            Err(error) => return Err(error),
        }
        standing.is_fresh = true;
        Ok(())
    }

    async fn forget(&self) {
        self.identity.write().await.is_fresh = false;
    }

    /// One watch stream from its snapshot until it breaks, or until a new one is asked for.
    async fn watch_once(&self, senders: &Senders, backoff: &mut Backoff) -> Result<Infallible, LinkError> {
        self.ready().await?;
        let mut frames = {
            let standing = self.identity.read().await;
            self.client.watch(&standing.identity).await?
        };
        let opened = tokio::time::Instant::now();
        let mut state = DesiredState::default();
        loop {
            let frame = tokio::select! {
                frame = frames.next() => frame,
                () = senders.refresh.notified() => return Err(LinkError::Refresh),
            };
            let Some(frame) = frame else { return Err(LinkError::Stream("ended by the manager".into())) };
            let frame = frame?;
            let is_whole = matches!(frame, Frame::Snapshot { .. });
            state = state.after(frame).map_err(|error| LinkError::Stream(error.to_string()))?;
            if opened.elapsed() > STREAM_LASTS {
                backoff.reset();
            }
            senders.desired.send_if_modified(|current| {
                let is_new = *current != state;
                if is_new {
                    current.clone_from(&state);
                }
                is_new
            });
            if is_whole {
                senders.snapshots.send_modify(|count| *count += 1);
            }
        }
    }

    async fn report_once(&self, outbox: &Mutex<Outbox>) -> Result<(), LinkError> {
        self.ready().await?;
        let report = outbox.lock().unwrap_or_else(PoisonError::into_inner).to_report();
        {
            let standing = self.identity.read().await;
            self.client.report(&standing.identity, &report).await?;
        }
        outbox.lock().unwrap_or_else(PoisonError::into_inner).sent(&report);
        Ok(())
    }
}

async fn keep_watching(session: &Session, senders: &Senders) {
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        match session.watch_once(senders, &mut backoff).await {
            Err(LinkError::Refresh) => {
                backoff.reset();
                continue;
            }
            Err(LinkError::Unauthorized) => {
                session.forget().await;
                say_once(&mut said, &LinkError::Unauthorized);
            }
            Err(error) => say_once(&mut said, &error),
            Ok(never) => match never {},
        }
        // Whoever asks for the whole state does not want to wait.
        tokio::select! { () = backoff.wait() => {}, () = senders.refresh.notified() => backoff.reset() }
    }
}

async fn keep_reporting(session: &Session, outbox: &Mutex<Outbox>, wake: &Notify) {
    let mut backoff = Backoff::default();
    loop {
        match session.report_once(outbox).await {
            Ok(()) => backoff.reset(),
            Err(error) => {
                if matches!(error, LinkError::Unauthorized) {
                    session.forget().await;
                }
                tracing::debug!(error = chain(&error), "report was not taken");
                backoff.wait().await;
                continue;
            }
        }
        if outbox.lock().unwrap_or_else(PoisonError::into_inner).has_events() {
            continue;
        }
        let interval = Duration::from_millis(session.report_interval_ms.load(Ordering::Relaxed).into());
        tokio::select! { () = wake.notified() => {}, () = tokio::time::sleep(interval) => {} }
    }
}

/// A manager that is away for a week is one line in the log, not a million.
fn say_once(said: &mut String, error: &LinkError) {
    let text = chain(error);
    if *said != text {
        tracing::warn!(error = text, "no watch stream; the last desired state stays in force");
        *said = text;
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
