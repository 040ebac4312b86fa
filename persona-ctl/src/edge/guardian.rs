//! The guardian: decides which egress addresses to answer for, tells the data path, and announces them.
//!
//! A thread of its own that waits for news from the prober, the ARP watcher and the loop. At the start it leaves what
//! the data path answers for as it is, until everything had time to answer.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use persona_core::ids::EdgeNumber;
use tokio::sync::Notify;

use super::announce::Announcements;
use super::arp;
use super::ownership::{Situation, owned};
use super::packet_socket::PacketSocket;
use super::watcher::{Side, SideName};
use crate::dataplane::OwnershipWriter;
use crate::host::error_chain;

/// News that wait; the senders wait for room, which the guardian makes within microseconds.
const NEWS_COUNT_MAX: usize = 1_024;
/// Nothing happens for this long at most without a look.
const LOOK: Duration = Duration::from_millis(500);

/// What the guardian is told.
pub(super) enum News {
    /// A side came alive or died.
    Side(SideName, bool),
    /// A peer came alive or died.
    Peer(EdgeNumber, bool),
    /// Who is in the group and what it carries; liveness in it is left out of account.
    Group(Box<Situation>),
    /// The process is to end.
    Stop,
}

/// What the guardian has decided, for reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Addresses that are answered for.
    pub owned: BTreeSet<Ipv4Addr>,
    /// Addresses taken over since this was last asked for.
    pub taken_over: Vec<Ipv4Addr>,
    /// Whether the outside next hop answers.
    pub is_outside_alive: bool,
    /// Whether a next hop towards the nodes answers.
    pub is_inside_alive: bool,
}

/// The running guardian.
#[derive(Debug)]
pub(super) struct Guardian {
    news: SyncSender<News>,
    standing: Arc<Mutex<Standing>>,
    thread: Option<JoinHandle<()>>,
}

impl Guardian {
    /// Starts the thread. `changed` is notified after each decision; nothing is decided before `settle` is over.
    pub(super) fn start(
        outside: &Side,
        ownership: OwnershipWriter,
        changed: Arc<Notify>,
        settle: Duration,
    ) -> io::Result<Self> {
        let (news, inbox) = sync_channel(NEWS_COUNT_MAX);
        let standing = Arc::default();
        let work = Work {
            socket: PacketSocket::open(outside.ifindex)?,
            mac: outside.mac,
            ownership,
            changed,
            standing: Arc::clone(&standing),
            situation: Situation::default(),
            owned: None,
            announcements: Announcements::default(),
            settled: Instant::now() + settle,
        };
        let thread = std::thread::Builder::new().name("persona-guard".into()).spawn(move || work.run(&inbox))?;
        Ok(Self { news, standing, thread: Some(thread) })
    }

    /// A sender of news.
    pub(super) fn news(&self) -> SyncSender<News> {
        self.news.clone()
    }

    /// What stands now; what was taken over is told once.
    pub(super) fn standing(&self) -> Standing {
        let mut standing = lock(&self.standing);
        let told = standing.clone();
        standing.taken_over.clear();
        told
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // If the thread is gone already there is nobody to tell.
        let _ = self.news.send(News::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the guardian had panicked");
        }
    }
}

struct Work {
    socket: PacketSocket,
    mac: [u8; 6],
    ownership: OwnershipWriter,
    changed: Arc<Notify>,
    standing: Arc<Mutex<Standing>>,
    situation: Situation,
    /// None: not decided yet; the data path keeps what a process before this one decided.
    owned: Option<BTreeSet<Ipv4Addr>>,
    announcements: Announcements,
    settled: Instant,
}

impl Work {
    fn run(mut self, inbox: &Receiver<News>) {
        crate::probe::prefer_this_thread("persona-guard");
        loop {
            let now = Instant::now();
            let wait = self.announcements.wait(now).unwrap_or(LOOK);
            let unsettled = self.settled.saturating_duration_since(now);
            let wait = if unsettled.is_zero() { wait } else { wait.min(unsettled) };
            match inbox.recv_timeout(wait) {
                Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(news) => self.take(news),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= self.settled {
                self.decide();
            }
            self.announce();
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Side(SideName::Inside, is_alive) => self.situation.is_inside_alive = is_alive,
            News::Side(SideName::Outside, is_alive) => {
                self.situation.is_outside_alive = is_alive;
                if let Err(error) = self.ownership.set_outside_alive(is_alive) {
                    tracing::error!(error = error_chain(&error), "data path was not told of the outside's state");
                }
            }
            News::Peer(number, is_alive) => self.situation.peers.entry(number).or_default().is_alive = is_alive,
            News::Group(group) => self.regroup(*group),
            News::Stop => {}
        }
        let mut standing = lock(&self.standing);
        standing.is_outside_alive = self.situation.is_outside_alive;
        standing.is_inside_alive = self.situation.is_inside_alive;
        drop(standing);
        self.changed.notify_one();
    }

    /// Membership is the manager's word, liveness is our own.
    fn regroup(&mut self, group: Situation) {
        let before = std::mem::take(&mut self.situation);
        let (is_outside_alive, is_inside_alive) = (before.is_outside_alive, before.is_inside_alive);
        self.situation = Situation { is_outside_alive, is_inside_alive, ..group };
        for (number, peer) in &mut self.situation.peers {
            peer.is_alive = before.peers.get(number).is_some_and(|before| before.is_alive);
        }
    }

    /// Tells the data path what has changed. The first time it is told everything.
    fn decide(&mut self) {
        if self.situation.own.is_none() {
            return;
        }
        let wanted = owned(&self.situation);
        let is_first = self.owned.is_none();
        let before = self.owned.clone().unwrap_or_default();
        let mut failed = BTreeSet::new();
        for address in &self.situation.addresses {
            let is_owned = wanted.contains(address);
            if !is_first && is_owned == before.contains(address) {
                continue;
            }
            if let Err(error) = self.ownership.set_owned((*address).into(), is_owned) {
                tracing::error!(%address, error = error_chain(&error), "data path was not told who owns an address");
                failed.insert(*address);
            } else if is_owned {
                self.announcements.begin(*address, Instant::now());
            } else {
                self.announcements.end(*address);
            }
        }
        let now: BTreeSet<Ipv4Addr> = wanted.difference(&failed).copied().collect();
        if is_first || now != before {
            let mut standing = lock(&self.standing);
            standing.taken_over.extend(now.difference(&before));
            standing.owned.clone_from(&now);
            drop(standing);
            self.owned = Some(now);
            self.changed.notify_one();
        }
    }

    fn announce(&mut self) {
        for address in self.announcements.take_due(Instant::now()) {
            if let Err(error) = self.socket.send(&arp::announcement(self.mac, address)) {
                tracing::debug!(%address, %error, "address was not announced");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
