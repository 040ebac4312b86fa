//! A host that seems farther away to some: it answers their echoes late, and no others but by itself.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;
use crate::sys;

/// How often it looks whether it shall stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Answers echoes in place of a namespace's kernel, as long as it lives.
#[derive(Debug)]
pub struct FarEchoes {
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FarEchoes {
    /// Answers who is named after a time, and everybody else at once.
    pub fn start(namespace: &Namespace, delays: BTreeMap<Ipv4Addr, Duration>) -> Result<Self> {
        namespace.write_sysctl("net/ipv4/icmp_echo_ignore_all", "1")?;
        let socket = namespace.run_inside(sys::echo_socket)?.context("a socket for echoes cannot be opened")?;
        socket.set_read_timeout(Some(LOOK_INTERVAL))?;
        let is_stopping = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let is_stopping = Arc::clone(&is_stopping);
            move || answer(&Arc::new(socket), &delays, &is_stopping)
        });
        Ok(Self { is_stopping, thread: Some(thread) })
    }
}

impl Drop for FarEchoes {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("whoever answers does not panic");
        }
    }
}

fn answer(socket: &Arc<UdpSocket>, delays: &BTreeMap<Ipv4Addr, Duration>, is_stopping: &AtomicBool) {
    let mut buffer = [0; 1_500];
    while !is_stopping.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(reply) = reply_to(&buffer[..length]) else { continue };
        let delay = match from.ip() {
            IpAddr::V4(address) => delays.get(&address).copied().unwrap_or_default(),
            IpAddr::V6(_) => Duration::ZERO,
        };
        let socket = Arc::clone(socket);
        // Who waits longer shall not have others wait.
        std::thread::spawn(move || late(&socket, &reply, from, delay));
    }
}

fn late(socket: &UdpSocket, reply: &[u8], to: SocketAddr, delay: Duration) -> io::Result<usize> {
    std::thread::sleep(delay);
    socket.send_to(reply, to)
}

/// The reply to an echo request (RFC 792), from a packet with its IP header. None: it is none.
fn reply_to(packet: &[u8]) -> Option<Vec<u8>> {
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    let mut reply = packet.get(header_length..)?.to_vec();
    if reply.len() < 8 || reply[0] != 8 {
        return None;
    }
    (reply[0], reply[2], reply[3]) = (0, 0, 0);
    let words = reply.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    reply[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_answered_with_what_it_carries_and_nothing_else_is() {
        let packet = [&[0x45][..], &[0; 19], &[8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1, 7]].concat();
        let reply = reply_to(&packet).unwrap();
        assert_eq!((reply[0], &reply[4..]), (0, &[0x12, 0x34, 0, 1, 7][..]));
        let words = reply.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "RFC 1071: with its checksum the sum is all ones");
        assert_eq!((reply_to(&[0x45; 3]), reply_to(&[&[0x45][..], &[0; 27]].concat())), (None, None));
    }
}
