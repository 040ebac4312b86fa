//! Real sockets over the chain with the senders' offloads on and off: every checksum state that a kernel makes, packets of
//! 64 KB that become segments late, pages that were never copied. Receivers check each byte, and their kernels each sum.
#![expect(unsafe_code, reason = "SO_NO_CHECK has no safe form")]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use persona_ctl::dataplane::Hook;

use super::namespace::Namespace;
use super::path::{Chain, Family};
use super::world::is_privileged;

const PORT: u16 = 7100;

/// Bytes that are carried each way; fewer where the processor is emulated (xtask says so).
fn length() -> usize {
    if std::env::var_os("PERSONA_TEST_EMULATED").is_some() { 2 << 20 } else { 6 << 20 }
}

/// A file of bytes in which a shift would show.
pub(super) fn content() -> File {
    let mut file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..length() as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    file.write_all(&bytes).unwrap();
    file
}

/// Sends the file's pages as they are: the standard library takes sendfile(2).
fn send(file: &File, mut stream: TcpStream) {
    let mut file = file;
    file.rewind().unwrap();
    assert_eq!(std::io::copy(&mut file, &mut stream).unwrap(), length() as u64);
}

fn receive(file: &File, mut stream: TcpStream) {
    let mut file = file;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut got, mut expected) = (Vec::new(), Vec::new());
    stream.read_to_end(&mut got).unwrap();
    file.rewind().unwrap();
    file.read_to_end(&mut expected).unwrap();
    assert!(got == expected, "{} bytes came, or others", got.len());
}

/// Both ways over one connection each.
pub(super) fn transfer(chain: &Chain, file: &File) {
    let server = chain.family.server();
    let listener = chain.server.enter(|| TcpListener::bind((server, PORT)).unwrap());
    let connect = || chain.workload.enter(|| TcpStream::connect((server, PORT)).unwrap());
    let (mut there, back) = (file.try_clone().unwrap(), file);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (upload, from) = listener.accept().unwrap();
            assert!(chain.family.is_leased(from.ip()), "{from}");
            receive(&content(), upload);
            send(&content(), listener.accept().unwrap().0);
        });
        send(&there, connect());
        receive(back, connect());
        server.join().unwrap();
    });
    there.rewind().unwrap();
}

/// Datagrams of many lengths there and back, with a checksum and, where one may do without, without.
pub(super) fn exchange(chain: &Chain) {
    let family = chain.family;
    let bind = |namespace: &Namespace, address: IpAddr, port: u16| {
        let socket = namespace.enter(|| UdpSocket::bind((address, port)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    };
    let server = bind(&chain.server, family.server(), PORT);
    let longest = if family == Family::V4 { 1_372 } else { 1_352 };
    for has_checksum in [true, false].into_iter().filter(|has| *has || family == Family::V4) {
        let workload = bind(&chain.workload, chain.client, 0);
        workload.connect((family.server(), PORT)).unwrap();
        for socket in [&server, &workload] {
            let without = libc::c_int::from(!has_checksum);
            // SAFETY: an open socket, and an integer that lives until the call returns.
            let result = unsafe {
                let value = (&raw const without).cast();
                libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, 4)
            };
            assert_eq!(result, 0);
        }
        for length in [0, 1, 2, 3, 17, 512, longest - 1, longest] {
            let sent: Vec<u8> = (0..length).map(|at: u32| at as u8).collect();
            let mut buffer = [0; 2048];
            workload.send(&sent).unwrap();
            let (count, from) = server.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{length}: {error}"));
            assert_eq!(&buffer[..count], &sent[..]);
            assert!(family.is_leased(from.ip()), "{from}");
            server.send_to(&sent, from).unwrap();
            let count = workload.recv(&mut buffer).unwrap_or_else(|error| panic!("{length} back: {error}"));
            assert_eq!(buffer[..count], sent);
        }
    }
}

/// Checks that no kernel on the way has refused a packet for its checksum.
pub(super) fn assert_right_sums(chain: &Chain, what: &str) {
    for namespace in [&chain.workload, &chain.node, &chain.edge, &chain.server] {
        assert_eq!(wrong_sums(namespace), 0, "{:?}, {what}", chain.family);
    }
}

/// Packets that a namespace's kernel has refused for their checksum.
fn wrong_sums(namespace: &Namespace) -> u64 {
    let read = |file: &str| String::from_utf8(namespace.run(&format!("cat /proc/net/{file}")).stdout).unwrap();
    let text = read("snmp");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let pairs = lines.chunks(2).flat_map(|pair| pair[0].iter().copied().zip(pair[1].iter().copied()));
    let text6 = read("snmp6");
    let pairs6 = text6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let counts = pairs.chain(pairs6).filter(|(name, _)| name.contains("CsumErrors"));
    counts.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum()
}

#[test]
fn every_offload_carries_every_byte() {
    if !is_privileged() {
        return;
    }
    let file = content();
    for family in Family::BOTH {
        let chain = Chain::of(family);
        let node = chain.open_node();
        let edge = chain.open_edge(Hook::Tc);
        for (what, devices) in [
            ("as veth has it", &[][..]),
            ("the senders sum", &[(&chain.workload, "eth0"), (&chain.server, "s0")]),
            ("the last hop sums", &[(&chain.node, "w0"), (&chain.edge, "o0")]),
            ("the tunnel's ends sum", &[(&chain.node, "u0"), (&chain.edge, "i0")]),
        ] {
            let set = |state: &str| devices.iter().for_each(|(at, device)| at.ethtool(&format!("{device} tx {state}")));
            set("off");
            exchange(&chain);
            transfer(&chain, &file);
            assert_right_sums(&chain, what);
            let drops = (node.counters().unwrap().drops, edge.counters().unwrap().drops);
            assert!(drops.0.is_empty() && drops.1.is_empty(), "{family:?}, {what}: {drops:?}");
            set("on");
        }
    }
}

/// Bytes and packets that a device has received and sent.
fn traffic(namespace: &Namespace, device: &str) -> [(u64, u64); 2] {
    let output = namespace.run(&format!("ip -j -s link show dev {device}"));
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    ["rx", "tx"].map(|way| {
        let count = |what: &str| links[0]["stats64"][way][what].as_u64().unwrap();
        (count("bytes"), count("packets"))
    })
}

/// What the mean packet of each direction was, bytes.
fn means(before: [(u64, u64); 2], after: [(u64, u64); 2]) -> [u64; 2] {
    [0, 1].map(|way| (after[way].0 - before[way].0) / (after[way].1 - before[way].1).max(1))
}

#[test]
fn batches_of_segments_stay_whole_in_the_tunnel() {
    if !is_privileged() {
        return;
    }
    let file = content();
    for family in Family::BOTH {
        let chain = Chain::of(family);
        let node = chain.open_node();
        let edge = chain.open_edge(Hook::Tc);
        let server = family.server();
        let transfer = |is_up: bool| {
            let listener = chain.server.enter(|| TcpListener::bind((server, PORT)).unwrap());
            let before = traffic(&chain.node, "u0");
            std::thread::scope(|scope| {
                let server_side = scope.spawn(|| {
                    let stream = listener.accept().unwrap().0;
                    if is_up { receive(&content(), stream) } else { send(&content(), stream) }
                });
                let stream = chain.workload.enter(|| TcpStream::connect((server, PORT)).unwrap());
                if is_up {
                    send(&file, stream)
                } else {
                    receive(&file, stream)
                }
                server_side.join().unwrap();
            });
            means(before, traffic(&chain.node, "u0"))
        };
        let ([_, up], [down, _]) = (transfer(true), transfer(false));
        let drops = (node.counters().unwrap().drops, edge.counters().unwrap().drops);
        let means = format!("mean tunnel packet: {up} bytes up, {down} bytes down");
        assert!(up > 3_000 && down > 3_000, "{family:?}, {means}; {drops:?}");
    }
}

#[test]
fn packets_of_the_full_size_in_pieces_of_memory_get_through() {
    if !is_privileged() {
        return;
    }
    let file = content();
    for family in Family::BOTH {
        let chain = Chain::of(family);
        // Scattered pages, and a packet per segment: none is one run of bytes, each is as large as may be.
        for (namespace, device) in [(&chain.workload, "eth0"), (&chain.server, "s0")] {
            namespace.ethtool(&format!("{device} sg on tx on tso off gso off gro off"));
        }
        let node = chain.open_node();
        let edge = chain.open_edge(Hook::Tc);
        let before = traffic(&chain.workload, "eth0");
        transfer(&chain, &file);
        let [received, sent] = means(before, traffic(&chain.workload, "eth0"));
        assert_right_sums(&chain, "scattered");
        let drops = (node.counters().unwrap().drops, edge.counters().unwrap().drops);
        assert!(drops.0.is_empty() && drops.1.is_empty(), "{family:?}, {drops:?}");
        // Acknowledgements are among them; a batch would be larger than any packet.
        let is_full = sent < 1_420 && received < 1_420 && sent + received > 1_400;
        assert!(is_full, "{family:?}, {sent} sent, {received} received");
    }
}
