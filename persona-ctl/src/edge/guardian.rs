//! The guardian: decides which addresses to answer for (IPv4 egress addresses, and the next hops that IPv6 pools are
//! routed to), tells the data path, and announces them; and whether routes shall lead here.
//!
//! A thread of its own that waits for news from the prober, the watcher and the loop. At the start it leaves what
//! the data path answers for as it is, until everything had time to answer.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use persona_core::ids::EdgeNumber;
use tokio::sync::{Notify, watch};

use super::announce::Announcements;
use super::catch_up::{CatchUp, Demand};
use super::config::Neighbours;
use super::groups::Groups;
use super::ownership::{Situation, obstacle, owned};
use super::packet_socket::{Hearing, PacketSocket};
use super::routes::Wanted;
use super::watcher::{Side, SideName};
use super::{arp, neighbour_discovery};
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
    /// A node was heard again or fell silent.
    Node(IpAddr, bool),
    /// Who is in the group and what it carries; liveness in it is left out of account.
    Group(Box<Situation>),
    /// The manager has sent a whole state, and it is in force.
    Current,
    /// The process is to end.
    Stop,
}

/// What the guardian has decided, for reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Addresses that are answered for.
    pub owned: BTreeSet<IpAddr>,
    /// Addresses taken over since this was last asked for.
    pub taken_over: Vec<IpAddr>,
    /// Whether the outside next hop answers.
    pub is_outside_alive: bool,
    /// Whether a next hop towards the nodes answers.
    pub is_inside_alive: bool,
    /// Nodes that are heard.
    pub heard_nodes: BTreeSet<IpAddr>,
    /// Whether the manager is to be asked for the whole state; told once.
    pub asks_manager: bool,
}

/// What the guardian has decided is for these.
pub(super) struct Audience {
    /// Notified after each decision.
    pub changed: Arc<Notify>,
    /// Told whether routes shall lead here.
    pub routes: Arc<watch::Sender<Wanted>>,
}

/// The running guardian.
#[derive(Debug)]
pub(super) struct Guardian {
    news: SyncSender<News>,
    standing: Arc<Mutex<Standing>>,
    thread: Option<JoinHandle<()>>,
}

impl Guardian {
    /// Starts the thread. Nothing is decided before `settle` is over.
    pub(super) fn start(
        outside: &Side,
        ownership: OwnershipWriter,
        catch_up: CatchUp,
        neighbours: Neighbours,
        audience: Audience,
        settle: Duration,
    ) -> io::Result<Self> {
        let (news, inbox) = sync_channel(NEWS_COUNT_MAX);
        let standing = Arc::default();
        let work = Work {
            socket: PacketSocket::open(outside.ifindex, Hearing::Nothing)?,
            groups: Groups::on(outside.ifindex),
            mac: outside.mac,
            ownership,
            neighbours,
            audience,
            is_told: false,
            standing: Arc::clone(&standing),
            situation: Situation::default(),
            catch_up,
            told_outside: None,
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
        standing.asks_manager = false;
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
    groups: Groups,
    mac: [u8; 6],
    ownership: OwnershipWriter,
    neighbours: Neighbours,
    audience: Audience,
    /// Whether the manager's word, or what it said last, has come.
    is_told: bool,
    standing: Arc<Mutex<Standing>>,
    situation: Situation,
    catch_up: CatchUp,
    /// What the data path was told last of the outside.
    told_outside: Option<bool>,
    /// None: not decided yet; the data path keeps what a process before this one decided.
    owned: Option<BTreeSet<IpAddr>>,
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
            let wait = self.catch_up.wait(now).map_or(wait, |catching_up| wait.min(catching_up));
            match inbox.recv_timeout(wait) {
                Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(news) => self.take(news),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= self.settled {
                self.catch_up();
                self.tell_outside();
                self.decide();
                self.want_routes();
            }
            self.announce();
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Side(SideName::Inside, is_alive) => self.situation.is_inside_alive = is_alive,
            News::Side(SideName::Outside, is_alive) => self.situation.is_outside_alive = is_alive,
            News::Peer(number, is_alive) => {
                self.situation.peers.entry(number).or_default().is_alive = is_alive;
                self.tell_peer(number, is_alive);
            }
            News::Node(address, is_heard) => self.take_node(address, is_heard),
            News::Group(group) => {
                self.is_told = true;
                self.regroup(*group);
            }
            News::Current => self.catch_up.confirm(),
            News::Stop => {}
        }
        let mut standing = lock(&self.standing);
        standing.is_outside_alive = self.situation.is_outside_alive;
        standing.is_inside_alive = self.situation.is_inside_alive;
        standing.heard_nodes.clone_from(&self.situation.heard_nodes);
        drop(standing);
        self.audience.changed.notify_one();
    }

    /// After a time in which nobody was reached, the manager is asked before anything is served.
    fn catch_up(&mut self) {
        if self.catch_up.observe(self.situation.reaches_someone(), Instant::now()) == Demand::Ask {
            lock(&self.standing).asks_manager = true;
            self.audience.changed.notify_one();
        }
        self.situation.is_current = self.catch_up.allows_service();
    }

    /// While the data path takes the outside for dead, it reflects no probe.
    fn tell_outside(&mut self) {
        let is_serving = self.situation.is_outside_alive && self.situation.is_current;
        if self.told_outside == Some(is_serving) {
            return;
        }
        match self.ownership.set_outside_alive(is_serving) {
            Ok(()) => self.told_outside = Some(is_serving),
            Err(error) => {
                tracing::error!(error = error_chain(&error), "data path was not told of the outside's state");
            }
        }
    }

    fn take_node(&mut self, address: IpAddr, is_heard: bool) {
        if is_heard {
            self.situation.heard_nodes.insert(address);
        } else {
            self.situation.heard_nodes.remove(&address);
        }
        if let Err(error) = self.ownership.set_node_heard(address, is_heard) {
            tracing::error!(%address, error = error_chain(&error), "data path was not told whether a node is heard");
        }
    }

    fn tell_peer(&mut self, number: EdgeNumber, is_alive: bool) {
        if let Err(error) = self.ownership.set_peer_alive(number, is_alive) {
            tracing::error!(%number, error = error_chain(&error), "data path was not told of a peer's state");
        }
    }

    /// Membership is the manager's word, liveness is our own.
    fn regroup(&mut self, group: Situation) {
        let Situation { is_outside_alive, is_inside_alive, is_current, heard_nodes, peers, .. } =
            std::mem::take(&mut self.situation);
        self.situation = Situation { is_outside_alive, is_inside_alive, is_current, heard_nodes, ..group };
        for (number, peer) in &mut self.situation.peers {
            peer.is_alive = peers.get(number).is_some_and(|before| before.is_alive);
        }
        if self.owned.is_some() {
            self.tell_peers();
        }
        if self.neighbours == Neighbours::Leave {
            return;
        }
        self.groups.join(self.situation.addresses.iter().filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        }));
    }

    /// A peer's place in the data path may have been another's.
    fn tell_peers(&mut self) {
        let peers: Vec<_> = self.situation.peers.iter().map(|(number, peer)| (*number, peer.is_alive)).collect();
        peers.into_iter().for_each(|(number, is_alive)| self.tell_peer(number, is_alive));
    }

    /// Tells the data path what has changed. The first time it is told everything.
    fn decide(&mut self) {
        if self.situation.own.is_none() {
            return;
        }
        let wanted = match self.neighbours {
            Neighbours::Answer => owned(&self.situation),
            Neighbours::Leave => BTreeSet::new(),
        };
        let is_first = self.owned.is_none();
        if is_first {
            self.tell_peers();
        }
        let before = self.owned.clone().unwrap_or_default();
        let mut failed = BTreeSet::new();
        for address in &self.situation.addresses {
            let is_owned = wanted.contains(address);
            if !is_first && is_owned == before.contains(address) {
                continue;
            }
            if let Err(error) = self.ownership.set_owned(*address, is_owned) {
                tracing::error!(%address, error = error_chain(&error), "data path was not told who owns an address");
                failed.insert(*address);
            } else if is_owned {
                self.announcements.begin(*address, Instant::now());
            } else {
                self.announcements.end(*address);
            }
        }
        let now: BTreeSet<IpAddr> = wanted.difference(&failed).copied().collect();
        if is_first || now != before {
            let mut standing = lock(&self.standing);
            standing.taken_over.extend(now.difference(&before));
            standing.owned.clone_from(&now);
            drop(standing);
            self.owned = Some(now);
            self.audience.changed.notify_one();
        }
    }

    /// Says whether routes shall lead here.
    fn want_routes(&self) {
        if !self.is_told {
            return;
        }
        let wanted = match obstacle(&self.situation) {
            None => Wanted::Announced(self.situation.ranges.clone()),
            Some(obstacle) => Wanted::Withheld(obstacle),
        };
        self.audience.routes.send_if_modified(|before| {
            *before != wanted && {
                *before = wanted;
                true
            }
        });
    }

    fn announce(&mut self) {
        for address in self.announcements.take_due(Instant::now()) {
            let sent = match address {
                IpAddr::V4(address) => self.socket.send(&arp::announcement(self.mac, address)),
                IpAddr::V6(address) => self.socket.send(&neighbour_discovery::advertisement(self.mac, address)),
            };
            if let Err(error) = sent {
                tracing::debug!(%address, %error, "address was not announced");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
