//! The ARP watcher: asks the outside next hop and the next hops towards the nodes for signs of life.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use persona_core::ids::Generation;
use persona_core::liveness::{AttentiveClock, Liveness};
use persona_core::wire::desired::ProbeItem;

use super::arp;
use super::packet_socket::PacketSocket;
use crate::probe::{monotonic_ns, prefer_this_thread, sleep_until_readable};

const TICK: Duration = Duration::from_millis(5);
/// Most frames taken in before silence is judged.
const DRAIN_COUNT_MAX: usize = 1_024;
/// Next hops towards nodes that are asked; one answer is enough.
const INSIDE_TARGET_COUNT_MAX: usize = 8;

/// A device and who is asked there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Side {
    /// The device's index.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The address to ask from; 0.0.0.0 where the device has none.
    pub sender: Ipv4Addr,
    /// Whom to ask; one that answers makes the side alive.
    pub targets: BTreeSet<Ipv4Addr>,
}

/// Which side of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SideName {
    /// Towards the nodes.
    Inside,
    /// Towards the outside.
    Outside,
}

/// Called on the watching thread when a side comes alive or dies.
pub(super) type SideOutcome = Box<dyn FnMut(SideName, bool) + Send>;

/// The running watcher. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    is_stopping: AtomicBool,
    plan: Mutex<Plan>,
}

#[derive(Debug)]
struct Plan {
    probe: ProbeItem,
    inside_targets: BTreeSet<Ipv4Addr>,
}

struct Watched {
    name: SideName,
    side: Side,
    socket: PacketSocket,
    liveness: Liveness,
}

impl Watcher {
    /// Starts the thread. Both sides are taken for dead until somebody answers.
    pub(super) fn start(inside: Side, outside: Side, outcome: SideOutcome) -> io::Result<Self> {
        let plan = Plan { probe: ProbeItem::default(), inside_targets: inside.targets.clone() };
        let shared = Arc::new(Shared { is_stopping: AtomicBool::new(false), plan: Mutex::new(plan) });
        let watched = [(SideName::Inside, inside), (SideName::Outside, outside)].map(|(name, side)| {
            let socket = PacketSocket::open(side.ifindex)?;
            Ok::<_, io::Error>(Watched { name, side, socket, liveness: Liveness::new(0, None) })
        });
        let [inside, outside] = watched;
        let sides = [inside?, outside?];
        let thread = std::thread::Builder::new().name("persona-arp".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, sides, outcome)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks these next hops on the inside from now on, this often.
    pub(super) fn set_inside(&self, probe: ProbeItem, targets: BTreeSet<Ipv4Addr>) {
        let mut plan = self.shared.lock();
        plan.probe = ProbeItem { interval_ms: probe.interval_ms.max(1), multiplier: probe.multiplier.max(1) };
        plan.inside_targets = targets.into_iter().take(INSIDE_TARGET_COUNT_MAX).collect();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ARP thread had panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Shared, mut sides: [Watched; 2], mut outcome: SideOutcome) {
    prefer_this_thread("persona-arp");
    let mut clock = AttentiveClock::new(monotonic_ns());
    let mut sequence = 0;
    let mut next_send_ns = monotonic_ns();
    while !shared.is_stopping.load(Ordering::Relaxed) {
        let until_send = Duration::from_nanos(next_send_ns.saturating_sub(monotonic_ns()));
        sleep_until_readable(&[sides[0].socket.as_fd(), sides[1].socket.as_fd()], TICK.min(until_send));
        let real_ns = monotonic_ns();
        let now_ns = clock.advance(real_ns, TICK.as_nanos() as u64);
        let probe = {
            let plan = shared.lock();
            sides[0].side.targets.clone_from(&plan.inside_targets);
            plan.probe
        };
        for watched in &mut sides {
            if let Some(is_alive) = watched.look(now_ns, sequence, &probe) {
                outcome(watched.name, is_alive);
            }
        }
        if real_ns >= next_send_ns {
            sequence += 1;
            sides.iter_mut().for_each(|watched| watched.ask(sequence));
            next_send_ns = real_ns + u64::from(probe.interval_ms) * 1_000_000;
        }
    }
}

impl Watched {
    /// Takes in what has arrived, then judges silence. Returns whether the side is alive if that has changed.
    fn look(&mut self, now_ns: u64, sequence: u64, probe: &ProbeItem) -> Option<bool> {
        let before = self.liveness.verdict().alive;
        let mut frame = [0; 64];
        for _frame in 0..DRAIN_COUNT_MAX {
            match self.socket.receive(&mut frame) {
                Ok(length) => {
                    let sender = arp::sender_of(&frame[..length.min(64)]);
                    if sender.is_some_and(|sender| self.side.targets.contains(&sender)) {
                        // The verdict is read below; the generation has no meaning here.
                        let _ = self.liveness.heard(now_ns, sequence, 0, Generation::default());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing more, or the device is down: silence is judged by time either way.
                Err(_) => break,
            }
        }
        let _ = self.liveness.judge(now_ns, probe);
        let now = self.liveness.verdict().alive;
        (now != before).then_some(now)
    }

    fn ask(&mut self, sequence: u64) {
        self.liveness.sent(sequence);
        for target in &self.side.targets {
            let frame = arp::request(self.side.mac, self.side.sender, *target);
            if let Err(error) = self.socket.send(&frame) {
                tracing::debug!(%target, %error, "ARP request was not sent");
            }
        }
    }
}
