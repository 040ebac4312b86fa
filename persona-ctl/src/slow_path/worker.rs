//! The slow path's thread: takes frames off the device, cuts what is too big, lets fragments wait and sends them on.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use persona_common::drop::DropReason;

use super::counters::SlowPathCounters;
use super::cut::cut;
use super::facts::{Facts, Identifications, Role, is_ipv4};
use super::fate::{Fate, Fates};
use super::frame::{Handed, Outer, parse};
use super::queue::{Queue, Waiting, Way};
use super::raw_socket::RawSocket;
use super::rewrite::traffic_class;
use super::tap::Tap;
use crate::probe::sleep_until_readable;
use crate::wire::Inlet;

/// How often the programs' table is asked while something waits.
const POLL: Duration = Duration::from_millis(4);
/// How long nothing happens at most before the thread looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(200);
/// Most frames taken in before what waits is looked at.
const DRAIN_COUNT_MAX: usize = 256;
/// An Ethernet header, a VLAN tag, and the largest IP packet.
const FRAME_LENGTH_MAX: usize = 14 + 4 + 65_535;

/// What the thread and its owner share.
pub(super) struct Shared {
    pub is_stopping: AtomicBool,
    pub state: Mutex<State>,
}

/// What outlives the device when it has to be made again.
#[derive(Default)]
pub(super) struct State {
    pub facts: Arc<Facts>,
    pub counters: SlowPathCounters,
    pub fates: Option<Box<dyn Fates>>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's own things.
pub(super) struct Worker {
    pub role: Role,
    pub tap: Tap,
    pub socket: RawSocket,
    pub shared: Arc<Shared>,
    pub queue: Queue,
    pub identifications: Identifications,
}

impl Worker {
    /// Works until it is told to stop or the device is gone.
    pub(super) fn run(mut self) {
        let mut frame = vec![0; FRAME_LENGTH_MAX];
        while !self.shared.is_stopping.load(Ordering::Relaxed) {
            let wait = if self.queue.is_empty() { IDLE } else { POLL };
            sleep_until_readable(&[self.tap.as_fd()], wait);
            if let Err(error) = self.drain(&mut frame) {
                tracing::warn!(%error, "the slow path's device is gone; it is made again");
                return;
            }
            self.attend();
        }
    }

    fn drain(&mut self, frame: &mut [u8]) -> io::Result<()> {
        for _frame in 0..DRAIN_COUNT_MAX {
            match self.tap.receive(frame) {
                Ok(length) => self.take(&frame[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: &[u8]) {
        let outcome = match parse(frame) {
            Ok(Handed::TooBig(outer, inner)) => self.cut(&outer, inner),
            Ok(Handed::Waiting(way, inner)) => self.wait(way, inner),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = outcome {
            self.shared.lock().counters.dropped(reason, 1);
        }
    }

    fn cut(&mut self, outer: &Outer, inner: &[u8]) -> Result<(), DropReason> {
        let facts = Arc::clone(&self.shared.lock().facts);
        let (pieces, held) = facts.cut(self.role, inner, &mut self.identifications)?;
        let outer = Outer { wire_ifindex: held.wire_ifindex, ..*outer };
        for piece in &pieces {
            send_in_tunnel(&mut self.socket, &outer, piece, held.class)?;
        }
        let mut state = self.shared.lock();
        state.counters.cut += 1;
        state.counters.pieces += pieces.len() as u64;
        Ok(())
    }

    fn wait(&mut self, way: Way, inner: &[u8]) -> Result<(), DropReason> {
        self.queue.push(way, inner, Instant::now())?;
        self.shared.lock().counters.waited += 1;
        Ok(())
    }

    /// Sends on what has its first now, and gives up what has waited too long.
    fn attend(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let State { counters, fates, .. } = &mut *state;
        for key in self.queue.keys() {
            let Some(fate) = fates.as_mut().and_then(|fates| fates.find(&key)) else { continue };
            for waiting in self.queue.take(&key) {
                match release(&mut self.socket, &fate, waiting) {
                    Ok(()) => counters.released += 1,
                    Err(reason) => counters.dropped(reason, 1),
                }
            }
        }
        let expired = self.queue.expire(Instant::now()) as u64;
        counters.expired += expired;
        counters.dropped(DropReason::FragmentTimeout, expired);
    }
}

/// Does with a fragment what the program would have done.
fn release(socket: &mut RawSocket, fate: &Fate, waiting: Waiting) -> Result<(), DropReason> {
    let mut packet = waiting.packet;
    match fate {
        Fate::Drop(reason) => Err(*reason),
        Fate::Tunnel { rewrite, outer, mtu, class } => {
            rewrite.apply(&mut packet)?;
            let outer = Outer { traffic_class: traffic_class(&packet), ..*outer };
            if packet.len() <= usize::from(*mtu) {
                return send_in_tunnel(socket, &outer, &packet, *class);
            }
            if !is_ipv4(&packet) {
                return Err(DropReason::TooBig);
            }
            let pieces = cut(&packet, (*mtu).into()).map_err(|_| DropReason::TooBig)?;
            pieces.iter().try_for_each(|piece| send_in_tunnel(socket, &outer, piece, *class))
        }
        Fate::Deliver { rewrite, destination, ifindex } => {
            rewrite.apply(&mut packet)?;
            socket.send(&packet, *destination, 0, *ifindex).map_err(|error| refused(&error))
        }
    }
}

fn send_in_tunnel(socket: &mut RawSocket, outer: &Outer, inner: &[u8], class: u32) -> Result<(), DropReason> {
    let packet = outer.around(inner).ok_or(DropReason::TooBig)?;
    let sent = match outer.wire_ifindex {
        0 => socket.send(&packet, outer.destination, class, 0),
        ifindex => Inlet::open(ifindex).and_then(|inlet| inlet.send(&packet)),
    };
    sent.map_err(|error| refused(&error))
}

fn refused(error: &io::Error) -> DropReason {
    tracing::debug!(%error, "a packet of the slow path was not sent");
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => DropReason::TooBig,
        _ => DropReason::Kernel,
    }
}
