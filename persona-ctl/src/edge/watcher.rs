//! The watcher: asks the outside next hops and the next hops towards the nodes for signs of life, by ARP and by neighbour
//! discovery.
//!
//! A side is alive while any of those that are asked there answers.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use persona_core::ids::Generation;
use persona_core::liveness::{AttentiveClock, Liveness};
use persona_core::wire::desired::ProbeItem;

use super::packet_socket::{Hearing, PacketSocket};
use super::{arp, neighbour_discovery};
use crate::probe::{monotonic_ns, prefer_this_thread, sleep_until_readable};

const TICK: Duration = Duration::from_millis(5);
/// Most frames taken in before silence is judged.
const DRAIN_COUNT_MAX: usize = 1_024;
/// Longer than any frame that is looked at.
const FRAME_LENGTH_MAX: usize = 128;
/// Next hops towards nodes that are asked; one answer is enough.
const INSIDE_TARGET_COUNT_MAX: usize = 8;

/// A device and who is asked there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Side {
    /// The device's index.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The address to ask from by ARP; 0.0.0.0 where the device has none.
    pub sender: Ipv4Addr,
    /// The address to ask from by neighbour discovery; `::` where the device has none.
    pub sender6: Ipv6Addr,
    /// Whom to ask; one that answers makes the side alive.
    pub targets: BTreeSet<IpAddr>,
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
    inside_targets: BTreeSet<IpAddr>,
}

struct Watched {
    name: SideName,
    side: Side,
    arp: PacketSocket,
    discovery: PacketSocket,
    liveness: Liveness,
}

impl Watcher {
    /// Starts the thread. Both sides are taken for dead until somebody answers.
    pub(super) fn start(inside: Side, outside: Side, outcome: SideOutcome) -> io::Result<Self> {
        let plan = Plan { probe: ProbeItem::default(), inside_targets: inside.targets.clone() };
        let shared = Arc::new(Shared { is_stopping: AtomicBool::new(false), plan: Mutex::new(plan) });
        let watched = [(SideName::Inside, inside), (SideName::Outside, outside)].map(|(name, side)| {
            let arp = PacketSocket::open(side.ifindex, Hearing::Arp)?;
            let discovery = PacketSocket::open(side.ifindex, Hearing::NeighbourDiscovery)?;
            Ok::<_, io::Error>(Watched { name, side, arp, discovery, liveness: Liveness::new(0, None) })
        });
        let [inside, outside] = watched;
        let sides = [inside?, outside?];
        let thread = std::thread::Builder::new().name("persona-watch".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, sides, outcome)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks these next hops on the inside from now on, this often.
    pub(super) fn set_inside(&self, probe: ProbeItem, targets: BTreeSet<IpAddr>) {
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
            tracing::error!("the watching thread had panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Shared, mut sides: [Watched; 2], mut outcome: SideOutcome) {
    prefer_this_thread("persona-watch");
    let mut clock = AttentiveClock::new(monotonic_ns());
    let mut sequence = 0;
    let mut next_send_ns = monotonic_ns();
    while !shared.is_stopping.load(Ordering::Relaxed) {
        let until_send = Duration::from_nanos(next_send_ns.saturating_sub(monotonic_ns()));
        let sockets = sides.each_ref().map(|watched| [watched.arp.as_fd(), watched.discovery.as_fd()]);
        sleep_until_readable(sockets.as_flattened(), TICK.min(until_send));
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
        let (by_arp, by_discovery) = (self.hears(&self.arp), self.hears(&self.discovery));
        if by_arp || by_discovery {
            // The verdict is read below; the generation has no meaning here.
            let _ = self.liveness.heard(now_ns, sequence, 0, Generation::default());
        }
        let _ = self.liveness.judge(now_ns, probe);
        let now = self.liveness.verdict().alive;
        (now != before).then_some(now)
    }

    /// Takes in all frames that wait at a socket; whether one of them is of somebody who is asked.
    fn hears(&self, socket: &PacketSocket) -> bool {
        let mut is_heard = false;
        let mut frame = [0; FRAME_LENGTH_MAX];
        for _frame in 0..DRAIN_COUNT_MAX {
            match socket.receive(&mut frame) {
                Ok(length) => {
                    let frame = &frame[..length.min(FRAME_LENGTH_MAX)];
                    let sender = arp::sender_of(frame).map(IpAddr::V4);
                    let sender = sender.or_else(|| neighbour_discovery::sender_of(frame).map(IpAddr::V6));
                    is_heard |= sender.is_some_and(|sender| self.side.targets.contains(&sender));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing more, or the device is down: silence is judged by time either way.
                Err(_) => break,
            }
        }
        is_heard
    }

    fn ask(&mut self, sequence: u64) {
        self.liveness.sent(sequence);
        let Side { mac, sender, sender6, .. } = self.side;
        for target in &self.side.targets {
            let sent = match *target {
                IpAddr::V4(target) => self.arp.send(&arp::request(mac, sender, target)),
                IpAddr::V6(target) => self.discovery.send(&neighbour_discovery::solicitation(mac, sender6, target)),
            };
            if let Err(error) = sent {
                tracing::debug!(%target, %error, "a next hop was not asked");
            }
        }
    }
}
