//! The two tasks behind a node's or edge's link: one keeps the watch stream open, one sends reports.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use persona_core::wire::agent::Register;
use persona_core::wire::ask::{AgentAsk, Refused, Told};
use persona_core::wire::contents::Contents;
use persona_core::wire::desired::{DesiredState, Frame};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::client::LinkError;
use super::outbox::Outbox;
use super::session::{Session, spread};
use super::signs::Heard;

/// A stream that breaks sooner counts as a failed attempt: two agents under one name would else take turns without pause.
const STREAM_LASTS: Duration = Duration::from_secs(2);

/// What is told once an interval comes a little earlier or later each time: who was woken for the last report waits this share of
/// the interval longer for the next one, as a divisor, or he would tell everything twice.
const LATE_DIVISOR: u32 = 4;

/// Where the managers are and who asks.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// URLs of managers. Empty: those of the join token, or of the one that this host joined with.
    pub managers: Vec<String>,
    /// The join token as it was printed. Empty: this host has joined already.
    pub join_token: String,
    /// Where the key, the certificate and the last state are kept.
    pub state_dir: PathBuf,
    /// What to register; token and request for a certificate are filled in here.
    pub register: Register,
}

/// The running link.
#[derive(Debug)]
pub struct Link {
    /// The newest desired state; generation zero before the first.
    pub desired: watch::Receiver<DesiredState>,
    /// Counts the whole states that the manager has sent to this process; changes after `desired` has.
    pub snapshots: watch::Receiver<u64>,
    /// What became of reports.
    pub heard: watch::Receiver<Heard>,
    refresh: Arc<Notify>,
    outbox: Arc<Mutex<Outbox>>,
    wake: Arc<Notify>,
    session: Arc<Session>,
}

/// Changes what is reported, from another task.
#[derive(Debug, Clone)]
pub struct Reporter {
    outbox: Arc<Mutex<Outbox>>,
    wake: Arc<Notify>,
}

impl Reporter {
    /// As [`Link::report_now`].
    pub fn report_now(&self, change: impl FnOnce(&mut Outbox)) {
        change(&mut self.outbox.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }
}

/// Passes questions of applications on, from another task.
#[derive(Debug, Clone)]
pub struct Asker {
    session: Arc<Session>,
}

impl Asker {
    /// Asks the manager; one that cannot be reached is a refusal with the reason.
    pub async fn ask(&self, ask: &AgentAsk) -> Told {
        let asked = async { self.session.ready().await?.ask_for(self.session.managers(), ask).await };
        let refused = |error: LinkError| Told::Refused(Refused { detail: chain(&error), errors: Vec::new() });
        asked.await.unwrap_or_else(refused)
    }

    /// The sources of content that this edge shall measure the way to.
    pub async fn contents(&self) -> Result<Contents, LinkError> {
        self.session.ready().await?.contents(self.session.managers()).await
    }
}

impl Link {
    /// Something that asks from another task.
    pub fn asker(&self) -> Asker {
        Asker { session: Arc::clone(&self.session) }
    }

    /// Something that reports from another task.
    pub fn reporter(&self) -> Reporter {
        Reporter { outbox: Arc::clone(&self.outbox), wake: Arc::clone(&self.wake) }
    }

    /// Registers again, from another underlay address.
    pub async fn set_address(&self, address: IpAddr) {
        if self.session.set_address(address).await {
            self.wake.notify_one();
        }
    }

    /// Whether a stream of desired state is open.
    pub fn is_connected(&self) -> bool {
        self.session.is_watching()
    }

    /// When the certificate at hand ends, milliseconds since 1970. None: this host has not joined yet.
    pub fn certificate_expires_ms(&self) -> Option<u64> {
        self.session.certificate_expires_ms()
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
    let session = Arc::new(Session::open(config)?);
    let (sender, desired) = watch::channel(DesiredState::default());
    let (snapshot_sender, snapshots) = watch::channel(0);
    let (heard_sender, heard) = watch::channel(Heard::default());
    let (outbox, wake) = (Arc::<Mutex<Outbox>>::default(), Arc::<Notify>::default());
    let sender = Senders {
        desired: sender,
        snapshots: snapshot_sender,
        refresh: Arc::default(),
        outbox: Arc::clone(&outbox),
        wake: Arc::clone(&wake),
    };
    let refresh = Arc::clone(&sender.refresh);
    let link = Link { desired, snapshots, heard, refresh, outbox, wake, session: Arc::clone(&session) };
    let (outbox, wake) = (Arc::clone(&link.outbox), Arc::clone(&link.wake));
    tokio::spawn({
        let (session, stop) = (Arc::clone(&session), stop.clone());
        async move { stop.run_until_cancelled_owned(keep_watching(&session, &sender)).await }
    });
    let stop = stop.clone();
    tokio::spawn(async move {
        stop.run_until_cancelled_owned(keep_reporting(&session, &outbox, &wake, &heard_sender)).await
    });
    Ok(link)
}

/// What the watching task tells, and is told.
#[derive(Debug)]
struct Senders {
    desired: watch::Sender<DesiredState>,
    snapshots: watch::Sender<u64>,
    refresh: Arc<Notify>,
    outbox: Arc<Mutex<Outbox>>,
    wake: Arc<Notify>,
}

impl Session {
    /// One watch stream from its snapshot until it breaks, or until a new one is asked for.
    async fn watch_once(&self, senders: &Senders, backoff: &mut Backoff) -> Result<Infallible, LinkError> {
        let client = self.ready().await?;
        let manager = self.managers().current().number;
        let mut frames = client.watch(self.managers()).await?;
        let _watching = self.watching();
        let opened = tokio::time::Instant::now();
        let mut state = DesiredState::default();
        loop {
            let frame = tokio::select! {
                frame = frames.next() => frame,
                () = senders.refresh.notified() => return Err(LinkError::Refresh),
            };
            let ended = || Err(LinkError::Stream("ended by the manager".into()));
            let frame = frame.unwrap_or_else(ended).inspect_err(|_| self.managers().leave(manager))?;
            if let Frame::Recall { incarnation } = frame {
                tracing::warn!(
                    store.incarnation = incarnation,
                    "the manager's store went back; telling what is in force"
                );
                senders.outbox.lock().unwrap_or_else(PoisonError::into_inner).recall(incarnation);
                senders.wake.notify_one();
                continue;
            }
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
                senders.outbox.lock().unwrap_or_else(PoisonError::into_inner).tell_everything();
                senders.snapshots.send_modify(|count| *count += 1);
            }
        }
    }

    async fn report_once(&self, outbox: &Mutex<Outbox>) -> Result<(), LinkError> {
        let client = self.ready().await?;
        let report = outbox.lock().unwrap_or_else(PoisonError::into_inner).to_report();
        let taken = client.report(self.managers(), &report).await?;
        self.pace(taken.interval_ms);
        outbox.lock().unwrap_or_else(PoisonError::into_inner).sent(&report);
        for part in &taken.left_out {
            tracing::warn!(report.part = part.path, reason = part.detail, "the manager left a part of a report out");
        }
        self.renew_if_due(taken.roots_digest.as_deref()).await;
        Ok(())
    }
}

async fn keep_watching(session: &Session, senders: &Senders) {
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        let mut asked = None;
        match session.watch_once(senders, &mut backoff).await {
            Err(LinkError::Refresh) => {
                backoff.reset();
                continue;
            }
            Err(error @ LinkError::Unauthorized(_)) => {
                session.forget().await;
                say_once(&mut said, &error);
            }
            Err(error) => {
                asked = error.retry_after();
                say_once(&mut said, &error);
            }
            Ok(never) => match never {},
        }
        // Whoever asks for the whole state does not want to wait.
        tokio::select! { () = backoff.wait(asked) => {}, () = senders.refresh.notified() => backoff.reset() }
    }
}

async fn keep_reporting(session: &Session, outbox: &Mutex<Outbox>, wake: &Notify, heard: &watch::Sender<Heard>) {
    let mut backoff = Backoff::default();
    let mut is_woken = false;
    loop {
        let asked = Instant::now();
        let outcome = session.report_once(outbox).await;
        heard.send_modify(|heard| heard.take(asked, &outcome));
        match outcome {
            Ok(()) => backoff.reset(),
            Err(error) => {
                outbox.lock().unwrap_or_else(PoisonError::into_inner).tell_everything();
                if matches!(error, LinkError::Unauthorized(_)) {
                    session.forget().await;
                }
                tracing::debug!(error = chain(&error), "report was not taken");
                backoff.wait(error.retry_after()).await;
                continue;
            }
        }
        if outbox.lock().unwrap_or_else(PoisonError::into_inner).has_more() {
            continue;
        }
        is_woken = tokio::select! {
            () = wake.notified() => true,
            () = tokio::time::sleep(patience(session.report_interval(), is_woken)) => false,
        };
    }
}

/// How long to wait for something to tell. Who is not woken is never longer silent than the manager wants, and never in step
/// with others.
fn patience(interval: Duration, is_woken: bool) -> Duration {
    if is_woken { interval + interval / LATE_DIVISOR } else { spread_of(interval) }
}

/// Some of a time, between seven eighths and all of it.
pub(crate) fn spread_of(whole: Duration) -> Duration {
    let whole_ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(spread(whole_ms - whole_ms / 8, whole_ms))
}

/// A manager that is away for a week is one line in the log, not a million.
fn say_once(said: &mut String, error: &LinkError) {
    let text = chain(error);
    if *said != text {
        tracing::warn!(error = text, "no watch stream; the last desired state stays in force");
        *said = text;
    }
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_woken_once_an_interval_tells_once_an_interval() {
        let (interval, late) = (Duration::from_secs(1), Duration::from_millis(1_200));
        assert!(patience(interval, true) > late, "what wakes him is waited for");
        for _ in 0..100 {
            let silent = patience(interval, false);
            assert!(silent <= interval && silent >= interval * 7 / 8, "{silent:?}");
        }
    }
}
