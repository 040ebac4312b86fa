//! UDP echo: a server that sends back what it gets, and a client that numbers its packets and counts what returns.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::netns::Namespace;
use crate::sys;
use crate::world::{ECHO_PORT, INTERNET_ADDRESS};

/// Sockets return at least this often, so that their threads can stop.
const RECEIVE_TIME: Duration = Duration::from_millis(50);

/// How long answers may trail behind the last packet.
const TRAIL_TIME: Duration = Duration::from_secs(2);

/// An echo server on a thread.
#[derive(Debug)]
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Starts one inside a namespace.
    pub fn start(inside: &Namespace, address: SocketAddr) -> Result<Self> {
        Ok(Self::on(open(inside, &address.to_string())?))
    }

    /// Starts one on a socket that returns now and then when nothing comes.
    pub fn on(socket: UdpSocket) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&stop);
        let thread = std::thread::spawn(move || echo(&socket, &shared));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the echo's thread does not panic");
        }
    }
}

/// What an echo client counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoCount {
    /// Packets sent.
    pub sent: u64,
    /// Packets that came back, each counted once.
    pub returned: u64,
    /// The longest time between two that came back.
    pub worst_gap: Duration,
}

impl EchoCount {
    /// Packets that did not come back.
    pub fn lost(&self) -> u64 {
        self.sent - self.returned
    }
}

/// A client that sends at a steady rate.
#[derive(Debug)]
pub struct EchoClient {
    stop_sending: Arc<AtomicBool>,
    stop_receiving: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<(u64, Duration)>,
    returned: Arc<AtomicU64>,
}

impl EchoClient {
    /// Starts sending to the internet host from inside a namespace.
    pub fn start(inside: &Namespace, packets_per_sec: u32) -> Result<Self> {
        let socket = open(inside, "0.0.0.0:0")?;
        inside.run_inside(|| socket.connect((INTERNET_ADDRESS, ECHO_PORT)))?.context("no route to the echo")?;
        let (stop_sending, stop_receiving) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let returned = Arc::new(AtomicU64::new(0));
        let (source, stop) = (socket.try_clone()?, Arc::clone(&stop_sending));
        let sender = std::thread::spawn(move || send_numbered(&source, packets_per_sec, &stop));
        let (stop, count) = (Arc::clone(&stop_receiving), Arc::clone(&returned));
        let receiver = std::thread::spawn(move || count_returned(&socket, &stop, &count));
        Ok(Self { stop_sending, stop_receiving, sender, receiver, returned })
    }

    /// Packets that have come back so far.
    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    /// Stops sending, waits for the last answers, and counts.
    pub fn finish(self) -> EchoCount {
        self.stop_sending.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender does not panic");
        let deadline = Instant::now() + TRAIL_TIME;
        while self.returned.load(Ordering::Relaxed) < sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop_receiving.store(true, Ordering::Relaxed);
        let (returned, worst_gap) = self.receiver.join().expect("the receiver does not panic");
        EchoCount { sent, returned, worst_gap }
    }
}

fn open(inside: &Namespace, address: &str) -> Result<UdpSocket> {
    let socket = inside.run_inside(|| UdpSocket::bind(address))?.with_context(|| format!("{address} is taken"))?;
    sys::enlarge_receive_buffer(&socket).context("the receive buffer cannot be enlarged")?;
    socket.set_read_timeout(Some(RECEIVE_TIME))?;
    Ok(socket)
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], peer).ok(); // a lost answer is what the client counts
        }
    }
}

fn send_numbered(socket: &UdpSocket, packets_per_sec: u32, stop: &AtomicBool) -> u64 {
    let interval = Duration::from_secs(1) / packets_per_sec;
    let start = Instant::now();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let due = start + interval * number as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        socket.send(&number.to_be_bytes()).ok(); // counted as sent: an error here is a loss too
        number += 1;
    }
    number
}

fn count_returned(socket: &UdpSocket, stop: &AtomicBool, count: &AtomicU64) -> (u64, Duration) {
    let (mut seen, mut last, mut worst_gap) = (HashSet::new(), None::<Instant>, Duration::ZERO);
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let Ok(number) = <[u8; 8]>::try_from(&buffer[..length]) else { continue };
        if seen.insert(u64::from_be_bytes(number)) {
            worst_gap = worst_gap.max(last.map_or(Duration::ZERO, |last| last.elapsed()));
            last = Some(Instant::now());
            count.store(seen.len() as u64, Ordering::Relaxed);
        }
    }
    (seen.len() as u64, worst_gap)
}
