//! One way to a source of content: an ICMP echo, else a TCP connection, whichever answers. Blocks for seconds at most.
//!
//! Sockets are bound to the outside device, so what is measured is the way that packets of personas take. A connection that is
//! refused has made the round trip as well.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use persona_core::content::{Bounds, ContentSource, first_host};
use socket2::{Domain, Protocol, Socket, Type};

/// Whatever does not answer in this time does not answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Looks at one address, of which the shortest counts: what is longer waited somewhere.
const LOOK_COUNT: usize = 3;

/// The port that is connected to.
const PORT: u16 = 443;

/// Addresses of a name that are measured: one of each family, mostly.
const ADDRESS_COUNT_MAX: usize = 2;

/// The largest answer that is read, bytes.
const ANSWER_LENGTH_MAX: usize = 256;

/// Tells the echoes of this process from each other.
static SEQUENCE: AtomicU16 = AtomicU16::new(0);

/// The round trip to a source from a device, or why there is none.
pub(super) fn measure(source: &ContentSource, device: &str, bounds: &Bounds) -> Result<Duration, String> {
    let (mut best, mut troubles): (Option<Duration>, Vec<String>) = (None, Vec::new());
    for address in addresses_of(source)? {
        match bounds.refusal(address) {
            Some(why) => troubles.push(format!("{address} is not measured: {why}")),
            None => match round_trip(address, device) {
                Ok(time) => best = Some(best.map_or(time, |best| best.min(time))),
                Err(error) => troubles.push(format!("{address}: {error}")),
            },
        }
    }
    best.ok_or_else(|| troubles.join("; "))
}

fn addresses_of(source: &ContentSource) -> Result<Vec<IpAddr>, String> {
    match source {
        ContentSource::Place(_) => Err("a place is not measured".to_owned()),
        ContentSource::Prefix(prefix) => Ok(vec![first_host(prefix)]),
        ContentSource::Name(name) => {
            let found =
                (name.as_str(), PORT).to_socket_addrs().map_err(|error| format!("it does not resolve: {error}"))?;
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|found| found.ip()) {
                let is_new_family = addresses.iter().all(|known| known.is_ipv4() != address.is_ipv4());
                if is_new_family && addresses.len() < ADDRESS_COUNT_MAX {
                    addresses.push(address);
                }
            }
            Ok(addresses)
        }
    }
}

fn round_trip(address: IpAddr, device: &str) -> io::Result<Duration> {
    best_of(|| echo(address, device)).or_else(|_| best_of(|| connect(address, device)))
}

/// The first look that fails ends it.
fn best_of(look: impl Fn() -> io::Result<Duration>) -> io::Result<Duration> {
    let mut best = look()?;
    for _ in 1..LOOK_COUNT {
        best = best.min(look()?);
    }
    Ok(best)
}

fn open(address: IpAddr, device: &str, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(address, 0)), kind, Some(protocol))?;
    socket.bind_device(Some(device.as_bytes()))?;
    Ok(socket)
}

/// A connection that is accepted, or refused by the far end.
fn connect(address: IpAddr, device: &str) -> io::Result<Duration> {
    let socket = open(address, device, Type::STREAM, Protocol::TCP)?;
    let begun = Instant::now();
    match socket.connect_timeout(&SocketAddr::new(address, PORT).into(), ANSWER_TIME_MAX) {
        Ok(()) => Ok(begun.elapsed()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(begun.elapsed()),
        Err(error) => Err(error),
    }
}

/// An ICMP echo (RFC 792, RFC 4443 §4) and its reply.
fn echo(address: IpAddr, device: &str) -> io::Result<Duration> {
    let protocol = if address.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let mut socket = open(address, device, Type::RAW, protocol)?;
    // From now on only what comes from there is heard.
    socket.connect(&SocketAddr::new(address, 0).into())?;
    let identity = [std::process::id() as u16, SEQUENCE.fetch_add(1, Ordering::Relaxed)];
    let begun = Instant::now();
    socket.send(&request(address.is_ipv4(), identity))?;
    let mut buffer = [0; ANSWER_LENGTH_MAX];
    loop {
        let left = ANSWER_TIME_MAX.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.read(&mut buffer)?;
        if is_reply(address.is_ipv4(), &buffer[..length], identity) {
            return Ok(begun.elapsed());
        }
    }
}

/// An echo request. The kernel fills in the checksum of ICMPv6 (RFC 3542 §3.1), and leaves that of ICMP to us.
fn request(is_ipv4: bool, [identifier, sequence]: [u16; 2]) -> [u8; 8] {
    let mut message = [if is_ipv4 { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 0];
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    if is_ipv4 {
        let words = message.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        message[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    }
    message
}

/// Whether a message is the reply to an echo of ours. Raw sockets of IPv4 show the IP header too.
fn is_reply(is_ipv4: bool, packet: &[u8], identity: [u16; 2]) -> bool {
    let header_length = match packet.first() {
        Some(first) if is_ipv4 => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let expected = [identity[0].to_be_bytes(), identity[1].to_be_bytes()].concat();
    packet.get(header_length..).is_some_and(|message| {
        message.first() == Some(if is_ipv4 { &0 } else { &129 }) && message.get(4..8) == Some(&expected[..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_told_from_others_and_its_checksum_is_right() {
        let message = request(true, [0x1234, 0xfff0]);
        let sum: u32 = message.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "RFC 1071: with its checksum the sum is all ones");
        let header = [&[0x46][..], &[0; 23]].concat();
        let reply = |kind: u8, sequence: u8| [&header[..], &[kind, 0, 0, 0, 0x12, 0x34, 0xff, sequence, 9]].concat();
        assert!(is_reply(true, &reply(0, 0xf0), [0x1234, 0xfff0]), "with options in the header");
        assert!(!is_reply(true, &reply(0, 0xf1), [0x1234, 0xfff0]), "another echo's");
        assert!(!is_reply(true, &reply(8, 0xf0), [0x1234, 0xfff0]), "a request");
        assert!(!is_reply(true, &[0x4f], [0x1234, 0xfff0]) && !is_reply(true, &[], [0x1234, 0xfff0]), "cut off");
        let message = request(false, [1, 2]);
        assert_eq!(message, [128, 0, 0, 0, 0, 1, 0, 2]);
        assert!(is_reply(false, &[129, 0, 7, 7, 0, 1, 0, 2], [1, 2]) && !is_reply(false, &message, [1, 2]));
    }

    #[test]
    fn nothing_is_sent_towards_what_is_not_to_be_measured() {
        let deny = vec!["198.51.100.0/24".parse().unwrap()];
        for (source, why) in [("198.51.100.10", "denied in contents.deny"), ("10.0.0.1", "contents.allow")] {
            let bounds = Bounds { allow: Vec::new(), deny: deny.clone() };
            // A device that is not there: whatever was sent would fail with another word.
            let refused = measure(&source.parse().unwrap(), "nowhere0", &bounds).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        assert!(
            measure(&"localhost".parse().unwrap(), "nowhere0", &Bounds::default()).unwrap_err().contains("this host")
        );
    }
}
