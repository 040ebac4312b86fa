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
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;

use super::peers::{Peer, Peers};
use super::{FarEnd, FarEndState, PrivateKey, WireConfig, WireError, sockets};
use crate::probe::sleep_until_readable;
use crate::slow_path::Tap;

/// The timers of all far ends are looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// Most packets taken from one side before the other is looked at.
const DRAIN_COUNT_MAX: usize = 256;
/// Handshakes a second, beyond which who asks must show that it has the address it says (a cookie). Each counts twice.
const HANDSHAKES_PER_SEC: u64 = 2 * 1_000;
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
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: Arc<RateLimiter>,
    out: Vec<u8>,
}

impl Engine {
    /// Makes the device, in this thread's network namespace, and listens.
    pub(super) fn start(config: &WireConfig, key: &PrivateKey, address: IpAddr, mtu: u32) -> Result<Self, WireError> {
        let port = config.port;
        let socket = sockets::open(address, port).map_err(|source| WireError::Listen { address, port, source })?;
        let name = config.device;
        let tun = Tap::create_layer3(name, mtu).map_err(|source| WireError::Device { name, source })?;
        let ifindex = tun.ifindex();
        let public = x25519::PublicKey::from(key.public().0);
        let limiter = Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SEC));
        let peers = Peers::new(key.clone(), Arc::clone(&limiter));
        let state = Mutex::new(State { peers, fresh: Vec::new() });
        let shared = Arc::new(Shared { is_stopping: AtomicBool::new(false), state });
        let worker = Worker { tun, socket, secret: key.secret(), public, limiter, out: vec![0; BUFFER_LENGTH] };
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
        let mut ticked = Instant::now();
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
                self.limiter.reset_count();
                state.peers.iter_mut().for_each(|peer| self.keep_time(peer));
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
        let peer = match Tunn::parse_incoming_packet(datagram) {
            Ok(Packet::HandshakeInit(_)) => match self.greeted_by(datagram, from) {
                Some(key) => peers.of_key(&key),
                None => return,
            },
            Ok(Packet::HandshakeResponse(packet)) => peers.of_session(packet.receiver_idx),
            Ok(Packet::PacketCookieReply(packet)) => peers.of_session(packet.receiver_idx),
            Ok(Packet::PacketData(packet)) => match peers.of_session(packet.receiver_idx) {
                Some(peer) => Some(peer),
                // It still talks to who was here before.
                None => return peers.at(from.ip()).into_iter().for_each(|peer| self.greet(peer)),
            },
            Err(_) => return,
        };
        let Some(peer) = peer else {
            tracing::debug!(%from, "a datagram of nobody we know");
            return;
        };
        self.decrypt(peer, datagram, from);
    }

    /// The key of who begins a handshake; strangers are held off before anything is computed for them.
    fn greeted_by(&mut self, datagram: &[u8], from: SocketAddr) -> Option<[u8; 32]> {
        match self.limiter.verify_packet(Some(from.ip()), datagram, &mut self.out) {
            Ok(Packet::HandshakeInit(packet)) => {
                let half = parse_handshake_anon(&self.secret, &self.public, &packet).ok()?;
                Some(half.peer_static_public)
            }
            Err(TunnResult::WriteToNetwork(cookie)) => {
                send(&self.socket, cookie, from);
                None
            }
            _ => None,
        }
    }

    fn decrypt(&mut self, peer: &mut Peer, datagram: &[u8], from: SocketAddr) {
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
            }
            TunnResult::Err(error) => tracing::debug!(?error, %from, "a datagram was refused"),
            TunnResult::Done => {}
        }
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
