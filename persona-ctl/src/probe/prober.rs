//! The probing thread: send, hear, judge, tell.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use persona_common::probe::{GENEVE_PORT, PROBE_LENGTH, Reply, decode_reply, encode_request};
use persona_core::ids::{EdgeNumber, Generation};
use persona_core::liveness::{AttentiveClock, Liveness, Quality, Verdict};
use persona_core::wire::desired::ProbeItem;
use rustix::event::{EventfdFlags, eventfd};

use super::clock;
use super::socket::ProbeSocket;

/// Most answers taken in before silence is judged; more would let a flood stop the judging.
const DRAIN_COUNT_MAX: usize = 4_096;

/// An edge to probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its number.
    pub edge: EdgeNumber,
    /// Its address on the underlay.
    pub address: IpAddr,
    /// What the data path believes of it, asked when it becomes a target.
    pub believed: Option<Verdict>,
}

/// What is known of a probed edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Health {
    /// Whether it answers, and with which lease table.
    pub verdict: Verdict,
    /// How well.
    pub quality: Quality,
}

/// Called on the probing thread whenever a verdict changes. Must be quick.
pub type Outcome = Box<dyn FnMut(EdgeNumber, Verdict) + Send>;

/// Probes a changing set of edges. Dropping it ends the thread and leaves every verdict as it was.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    is_stopping: AtomicBool,
    /// Readable while there is something to do before the thread would wake by itself.
    wake: OwnedFd,
    peers: Mutex<Peers>,
    /// A socket that takes the place of the one in use.
    next_socket: Mutex<Option<ProbeSocket>>,
}

#[derive(Debug)]
struct Peers {
    probe: ProbeItem,
    clock: AttentiveClock,
    now_ns: u64,
    is_due: bool,
    peers: BTreeMap<IpAddr, Peer>,
}

#[derive(Debug)]
struct Peer {
    edge: EdgeNumber,
    liveness: Liveness,
}

impl Prober {
    /// Starts the thread, with nothing to probe yet. Probes leave from `source`; edges of the other family never answer.
    pub fn start(source: IpAddr, outcome: Outcome) -> io::Result<Self> {
        Self::on(ProbeSocket::open(source)?, outcome)
    }

    /// The same through the device of the encrypted tunnel: what is judged is the way that encrypted packets take.
    pub fn start_through(source: IpAddr, ifindex: u32, outcome: Outcome) -> io::Result<Self> {
        Self::on(ProbeSocket::through(source, ifindex)?, outcome)
    }

    fn on(socket: ProbeSocket, outcome: Outcome) -> io::Result<Self> {
        let clock = AttentiveClock::new(clock::monotonic_ns());
        let peers = Peers { probe: ProbeItem::default(), clock, now_ns: 0, is_due: false, peers: BTreeMap::new() };
        let shared = Arc::new(Shared {
            is_stopping: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            peers: Mutex::new(peers),
            next_socket: Mutex::default(),
        });
        let thread = std::thread::Builder::new().name("persona-probe".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, socket, outcome)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets probes leave from another address from now on.
    pub fn set_source(&self, source: IpAddr) -> io::Result<()> {
        let socket = ProbeSocket::open(source)?;
        *self.shared.next_socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
        self.probe_soon();
        Ok(())
    }

    /// Probes these edges from now on, and no others. An edge that stays keeps its history.
    pub fn set_targets(&self, probe: ProbeItem, targets: &[Target]) {
        if self.shared.lock().set_targets(probe, targets) {
            self.probe_soon();
        }
    }

    /// Sends a round of probes at once instead of waiting for the interval to end.
    pub fn probe_soon(&self) {
        self.shared.lock().is_due = true;
        self.shared.wake();
    }

    /// What is known of every probed edge.
    pub fn health(&self) -> BTreeMap<EdgeNumber, Health> {
        let state = self.shared.lock();
        let in_flight = u32::from(state.probe.multiplier);
        let of = |peer: &Peer| Health { verdict: peer.liveness.verdict(), quality: peer.liveness.quality(in_flight) };
        state.peers.values().map(|peer| (peer.edge, of(peer))).collect()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the probing thread had panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // The counter of wakes is full only while the thread has been woken often and not come to it yet.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Whoever wakes from now on means the next sleep.
    fn sleep_is_over(&self) {
        // Nobody has woken the thread before its time, mostly.
        let _ = rustix::io::read(&self.wake, &mut [0; size_of::<u64>()]);
    }
}

fn run(shared: &Shared, mut socket: ProbeSocket, mut outcome: Outcome) {
    clock::prefer_this_thread("persona-probe");
    let mut sequence = 0;
    let mut next_send_ns = clock::monotonic_ns();
    while !shared.is_stopping.load(Ordering::Relaxed) {
        let until_send_ns = next_send_ns.saturating_sub(clock::monotonic_ns());
        // Silence is judged when it would be death: an answer wakes the thread before.
        let planned_ns = shared.lock().until_death_ns().map_or(until_send_ns, |ns| ns.min(until_send_ns));
        clock::sleep_until_readable(&[socket.as_fd(), shared.wake.as_fd()], Duration::from_nanos(planned_ns));
        shared.sleep_is_over();
        if let Some(next) = shared.next_socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            socket = next;
        }
        let mut changes = Vec::new();
        {
            let mut state = shared.lock();
            let real_ns = clock::monotonic_ns();
            state.now_ns = state.clock.advance(real_ns, planned_ns);
            state.hear_all(&socket, &mut changes);
            state.judge_all(&mut changes);
            if real_ns >= next_send_ns || state.is_due {
                state.is_due = false;
                sequence += 1;
                state.send_all(&socket, sequence);
                let interval_ns = u64::from(state.probe.interval_ms) * 1_000_000;
                next_send_ns = real_ns + interval_ns;
            }
        }
        for (edge, verdict) in changes {
            outcome(edge, verdict);
        }
    }
}

impl Peers {
    /// Returns whether some of them are new, or shall be probed more often or less.
    fn set_targets(&mut self, probe: ProbeItem, targets: &[Target]) -> bool {
        let probe = ProbeItem { interval_ms: probe.interval_ms.max(1), multiplier: probe.multiplier.max(1) };
        let mut is_new = probe != self.probe;
        self.probe = probe;
        self.peers.retain(|address, peer| {
            targets.iter().any(|target| target.address == *address && target.edge == peer.edge)
        });
        for target in targets {
            let now_ns = self.now_ns;
            self.peers.entry(target.address).or_insert_with(|| {
                is_new = true;
                Peer { edge: target.edge, liveness: Liveness::new(now_ns, target.believed) }
            });
        }
        is_new
    }

    /// How long until the first of those that are alive would be dead, had it said nothing.
    fn until_death_ns(&self) -> Option<u64> {
        let deaths = self.peers.values().filter_map(|peer| peer.liveness.dies_at_ns(&self.probe));
        deaths.min().map(|dies_at_ns| dies_at_ns.saturating_sub(self.now_ns))
    }

    /// Takes in everything that has arrived, so that silence is never judged with an answer waiting.
    fn hear_all(&mut self, socket: &ProbeSocket, changes: &mut Vec<(EdgeNumber, Verdict)>) {
        let mut bytes = [0; PROBE_LENGTH + 1];
        for _answer in 0..DRAIN_COUNT_MAX {
            match socket.receive_from(&mut bytes) {
                Ok((length, from)) if from.port() == GENEVE_PORT => {
                    if let Some(reply) = decode_reply(&bytes[..length]) {
                        changes.extend(self.hear(from.ip(), reply));
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing more, or an ICMP error from the way there: silence is judged by time either way.
                Err(_) => break,
            }
        }
    }

    fn hear(&mut self, from: IpAddr, reply: Reply) -> Option<(EdgeNumber, Verdict)> {
        let now_ns = self.now_ns;
        let peer = self.peers.get_mut(&from)?;
        let round_trip_ns = clock::monotonic_ns().saturating_sub(reply.sent_ns);
        let changed = peer.liveness.heard(now_ns, reply.sequence, round_trip_ns, Generation(reply.generation));
        changed.map(|verdict| (peer.edge, verdict))
    }

    fn judge_all(&mut self, changes: &mut Vec<(EdgeNumber, Verdict)>) {
        for peer in self.peers.values_mut() {
            let changed = peer.liveness.judge(self.now_ns, &self.probe);
            changes.extend(changed.map(|verdict| (peer.edge, verdict)));
        }
    }

    fn send_all(&mut self, socket: &ProbeSocket, sequence: u64) {
        for (address, peer) in &mut self.peers {
            let request = encode_request(sequence, clock::monotonic_ns(), peer.liveness.verdict().alive);
            peer.liveness.sent(sequence);
            if let Err(error) = socket.send_to(&request, SocketAddr::new(*address, GENEVE_PORT)) {
                tracing::debug!(edge.address = %address, %error, "probe was not sent");
            }
        }
    }
}
