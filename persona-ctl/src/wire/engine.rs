//! WireGuard in user space: a thread between a TUN device and a UDP socket.
//!
//! What becomes of a packet is boringtun's to say (the Noise handshake, keys, counters against replay); this moves packets,
//! finds the far end that one belongs to, and lets nobody inside send from another address than its own.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, Tunn, TunnResult};

use super::peers::{OwnKey, Peer, Peers};
use super::{FarEnd, FarEndState, OwnKeys, WireConfig, WireError, sockets};
use crate::probe::sleep_until_readable;
use crate::slow_path::Tap;

/// The timers of all far ends are looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// Most packets taken from one side before the other is looked at.
const DRAIN_COUNT_MAX: usize = 256;
/// A far end that has not answered to our next key is asked again this often: it may not have been told of it yet.
const TRY_INTERVAL: Duration = Duration::from_secs(1);
/// The largest packet, and what WireGuard adds to it.
const BUFFER_LENGTH: usize = 65_535 + 32;

/// The running thread. Dropping it takes the device away.
pub(super) struct Engine {
    ifindex: u32,
    address: IpAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    is_stopping: AtomicBool,
    state: Mutex<State>,
}

struct State {
    peers: Peers,
    /// Far ends that no handshake has been begun with.
    fresh: Vec<u32>,
}

/// The thread's own things.
struct Worker {
    tun: Tap,
    socket: UdpSocket,
    out: Vec<u8>,
}

impl Engine {
    /// Makes the device, in this thread's network namespace, and listens.
    pub(super) fn start(config: &WireConfig, keys: &OwnKeys, address: IpAddr, mtu: u32) -> Result<Self, WireError> {
        let port = config.port;
        let socket = sockets::open(address, port).map_err(|source| WireError::Listen { address, port, source })?;
        let name = config.device;
        let tun = Tap::create_layer3(name, mtu).map_err(|source| WireError::Device { name, source })?;
        let ifindex = tun.ifindex();
        let state = Mutex::new(State { peers: Peers::new(keys), fresh: Vec::new() });
        let shared = Arc::new(Shared { is_stopping: AtomicBool::new(false), state });
        let worker = Worker { tun, socket, out: vec![0; BUFFER_LENGTH] };
        let thread = std::thread::Builder::new().name("persona-wire".into()).spawn({
            let shared = Arc::clone(&shared);
            move || worker.run(&shared)
        });
        Ok(Self { ifindex, address, shared, thread: Some(thread.map_err(WireError::Thread)?) })
    }

    /// The device's index.
    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether it works, and on this address.
    pub(super) fn serves(&self, address: IpAddr) -> bool {
        self.address == address && self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Talks to these far ends from now on and to no others.
    pub(super) fn set_far_ends(&self, far_ends: &[FarEnd]) {
        let mut state = self.shared.lock();
        let fresh = state.peers.set(far_ends);
        state.fresh.extend(fresh);
    }

    /// Has these keys from now on and no others.
    pub(super) fn set_keys(&self, keys: &OwnKeys) {
        let mut state = self.shared.lock();
        let fresh = state.peers.set_keys(keys);
        state.fresh.extend(fresh);
    }

    /// Whether every far end that there are sessions with has agreed on some under our next key.
    pub(super) fn is_next_key_agreed(&self) -> bool {
        self.shared.lock().peers.is_next_key_agreed()
    }

    /// What is known of the far ends.
    pub(super) fn states(&self) -> Vec<FarEndState> {
        self.shared.lock().peers.states()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the encrypted tunnel had panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Works until it is told to stop or the device is gone.
    fn run(mut self, shared: &Shared) {
        let mut buffer = vec![0; BUFFER_LENGTH];
        let (mut ticked, mut tried) = (Instant::now(), Instant::now());
        while !shared.is_stopping.load(Ordering::Relaxed) {
            sleep_until_readable(&[self.tun.as_fd(), self.socket.as_fd()], TICK / 2);
            let mut state = shared.lock();
            for index in std::mem::take(&mut state.fresh) {
                if let Some(peer) = state.peers.get(index) {
                    self.greet(peer);
                }
            }
            if let Err(error) = self.send_all(&mut state.peers, &mut buffer) {
                tracing::warn!(%error, "the encrypted tunnel's device is gone; it is made again");
                return;
            }
            self.receive_all(&mut state.peers, &mut buffer);
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                state.peers.own().iter().for_each(|own| own.limiter.reset_count());
                state.peers.iter_mut().for_each(|peer| self.keep_time(peer));
            }
            if tried.elapsed() >= TRY_INTERVAL {
                tried = Instant::now();
                state.peers.untried_mut().for_each(|peer| self.try_again(peer));
            }
        }
    }

    /// Encrypts what has been sent into the device.
    fn send_all(&mut self, peers: &mut Peers, buffer: &mut [u8]) -> io::Result<()> {
        for _packet in 0..DRAIN_COUNT_MAX {
            let length = match self.tun.receive(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let packet = &buffer[..length];
            // What is for nobody is the kernel's own talk: multicast reports.
            let Some(peer) = Tunn::dst_address(packet).and_then(|address| peers.at(address)) else { continue };
            let endpoint = peer.endpoint();
            match peer.tunnel.encapsulate(packet, &mut self.out) {
                TunnResult::WriteToNetwork(datagram) => send(&self.socket, datagram, endpoint),
                TunnResult::Err(error) => tracing::debug!(?error, %endpoint, "a packet was not encrypted"),
                // It waits for the handshake.
                _ => {}
            }
        }
        Ok(())
    }

    /// Decrypts what has come, and answers handshakes.
    fn receive_all(&mut self, peers: &mut Peers, buffer: &mut [u8]) {
        for _datagram in 0..DRAIN_COUNT_MAX {
            match self.socket.recv_from(buffer) {
                Ok((length, from)) => self.take(peers, &buffer[..length], from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error from the way there: the far end is tried again when its time comes.
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, peers: &mut Peers, datagram: &[u8], from: SocketAddr) {
        // Who begins a handshake has not shown yet that it hears us.
        let (index, shows_keys) = match Tunn::parse_incoming_packet(datagram) {
            Ok(Packet::HandshakeInit(_)) => (self.greeted_by(peers, datagram, from), false),
            Ok(Packet::HandshakeResponse(packet)) => (peers.of_session(packet.receiver_idx), true),
            Ok(Packet::PacketCookieReply(packet)) => (peers.of_session(packet.receiver_idx), false),
            Ok(Packet::PacketData(packet)) => match peers.of_session(packet.receiver_idx) {
                Some(index) => (Some(index), true),
                // It still talks to who was here before.
                None => return peers.at(from.ip()).into_iter().for_each(|peer| self.greet(peer)),
            },
            Err(_) => return,
        };
        let Some(index) = index else {
            tracing::debug!(%from, "a datagram of nobody we know");
            return;
        };
        let is_accepted = peers.get(index).is_some_and(|peer| self.decrypt(peer, datagram, from));
        if shows_keys && is_accepted {
            peers.note_works(index);
        }
    }

    /// The peer that begins a handshake; strangers are held off before anything is computed for them.
    fn greeted_by(&mut self, peers: &Peers, datagram: &[u8], from: SocketAddr) -> Option<u32> {
        for OwnKey { secret, public, limiter } in peers.own() {
            match limiter.verify_packet(Some(from.ip()), datagram, &mut self.out) {
                Ok(Packet::HandshakeInit(packet)) => {
                    let half = parse_handshake_anon(secret, public, &packet).ok()?;
                    return peers.of_keys(&half.peer_static_public, public);
                }
                Err(TunnResult::WriteToNetwork(cookie)) => {
                    send(&self.socket, cookie, from);
                    return None;
                }
                // It is for another key of ours, or for nobody here.
                _ => {}
            }
        }
        None
    }

    /// Takes a datagram in; whether it was good.
    fn decrypt(&mut self, peer: &mut Peer, datagram: &[u8], from: SocketAddr) -> bool {
        let endpoint = peer.endpoint();
        match peer.tunnel.decapsulate(Some(from.ip()), datagram, &mut self.out) {
            TunnResult::WriteToTunnelV4(packet, source) => deliver(&self.tun, packet, source.into(), endpoint),
            TunnResult::WriteToTunnelV6(packet, source) => deliver(&self.tun, packet, source.into(), endpoint),
            TunnResult::WriteToNetwork(answer) => {
                send(&self.socket, answer, endpoint);
                self.flush(peer);
            }
            // It has restarted, or we have: it is told so at once, not when it notices that nobody answers.
            TunnResult::Err(WireGuardError::NoCurrentSession | WireGuardError::WrongIndex)
                if from.ip() == endpoint.ip() =>
            {
                self.greet(peer);
                return false;
            }
            TunnResult::Err(error) => {
                tracing::debug!(?error, %from, "a datagram was refused");
                return false;
            }
            TunnResult::Done => {}
        }
        true
    }

    /// Sends what has waited for a handshake.
    fn flush(&mut self, peer: &mut Peer) {
        let endpoint = peer.endpoint();
        while let TunnResult::WriteToNetwork(datagram) = peer.tunnel.decapsulate(None, &[], &mut self.out) {
            send(&self.socket, datagram, endpoint);
        }
    }

    /// Begins a handshake, unless one is under way.
    fn greet(&mut self, peer: &mut Peer) {
        let endpoint = peer.endpoint();
        if let TunnResult::WriteToNetwork(datagram) = peer.tunnel.format_handshake_initiation(&mut self.out, false) {
            send(&self.socket, datagram, endpoint);
        }
    }

    /// Begins a handshake anew, although one may be under way.
    fn try_again(&mut self, peer: &mut Peer) {
        let endpoint = peer.endpoint();
        if let TunnResult::WriteToNetwork(datagram) = peer.tunnel.format_handshake_initiation(&mut self.out, true) {
            send(&self.socket, datagram, endpoint);
        }
    }

    fn keep_time(&mut self, peer: &mut Peer) {
        let endpoint = peer.endpoint();
        if let TunnResult::WriteToNetwork(datagram) = peer.tunnel.update_timers(&mut self.out) {
            send(&self.socket, datagram, endpoint);
        }
    }
}

/// Hands a decrypted packet to the host, if it comes from the far end's own address.
fn deliver(tun: &Tap, packet: &[u8], source: IpAddr, endpoint: SocketAddr) {
    if source != endpoint.ip() {
        tracing::debug!(%source, far_end = %endpoint, "a far end sent from another address than its own");
        return;
    }
    if let Err(error) = tun.send(packet) {
        tracing::debug!(%error, "a decrypted packet was not taken by the device");
    }
}

/// A datagram that cannot be sent now is lost, as on any link.
fn send(socket: &UdpSocket, datagram: &[u8], endpoint: SocketAddr) {
    if let Err(error) = socket.send_to(datagram, endpoint) {
        tracing::debug!(%error, %endpoint, "a datagram was not sent");
    }
}
