//! Probes over both families, as they stand on the wire: without UDP checksums.
#![expect(unsafe_code, reason = "setsockopt has no safe form in the standard library")]

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::Duration;

use persona_common::probe::{GENEVE_PORT, KIND_REPLY, PROBE_LENGTH};
use persona_core::ids::{EdgeNumber, Generation};
use persona_core::wire::desired::ProbeItem;
use persona_ctl::probe::{Prober, Target};

use crate::netlink::{in_namespace, ip};

/// linux/udp.h.
const UDP_NO_CHECK6_RX: libc::c_int = 102;

const NUMBER: EdgeNumber = EdgeNumber(7);

/// Answers as an edge's program does.
fn reflect(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut bytes = [0; PROBE_LENGTH];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            bytes[13] = KIND_REPLY;
            bytes[32..40].copy_from_slice(&9_u64.to_be_bytes());
            if socket.send_to(&bytes[..length], from).is_err() {
                return;
            }
        }
    });
}

fn accept_zero_checksums(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: an open descriptor, and a value of the length given.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_UDP, UDP_NO_CHECK6_RX, (&raw const on).cast(), length)
    };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

/// Whether probes from one loopback address to another of its family are answered.
fn is_heard(source: IpAddr, edge: IpAddr, prepare: impl Fn(&UdpSocket)) -> Option<Generation> {
    let socket = UdpSocket::bind((edge, GENEVE_PORT)).unwrap();
    prepare(&socket);
    reflect(socket);
    let (sender, verdicts) = mpsc::channel();
    let prober =
        Prober::start(source, Box::new(move |edge, verdict| sender.send((edge, verdict)).unwrap_or_default())).unwrap();
    let target = Target { edge: NUMBER, address: edge, believed: None };
    prober.set_targets(ProbeItem { interval_ms: 20, multiplier: 3 }, &[target]);
    let heard = verdicts.recv_timeout(Duration::from_millis(500)).ok()?;
    assert_eq!((heard.0, heard.1.alive), (NUMBER, true));
    assert!(prober.health()[&NUMBER].quality.rtt_us.is_some());
    Some(heard.1.generation)
}

#[test]
fn probes_go_out_and_come_back_without_checksums_over_both_families() {
    in_namespace(async |_| {
        ip("address add 2001:db8::1/128 dev lo nodad");
        ip("address add 2001:db8::2/128 dev lo nodad");
        ip("address add 2001:db8::3/128 dev lo nodad");
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let heard = is_heard(address("127.0.0.1"), address("127.0.0.2"), |_| {});
        assert_eq!(heard, Some(Generation(9)), "IPv4");
        let heard = is_heard(address("2001:db8::1"), address("2001:db8::2"), accept_zero_checksums);
        assert_eq!(heard, Some(Generation(9)), "IPv6");
        let heard = is_heard(address("2001:db8::1"), address("2001:db8::3"), |_| {});
        assert_eq!(heard, None, "a socket that insists on checksums drops our probes: they carry none");
    });
}
