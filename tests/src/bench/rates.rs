//! How exactly a subject is held to its rate upwards, in inner IP bytes: by our classes and, where there is `fq`, by our departure
//! times, beside the queues of the kernel's chain that are told the same rate.
//!
//! What arrives is counted at the server while more is offered than may pass: once the queue is full, and as long as it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::chain::{CLIENT, Chain, Holder, Kind, SERVER};
use super::measures::Run;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use crate::ctl::is_emulated;
use crate::load::paced::pace;
use crate::sys;

/// How far off a rate may be, percent.
const GOAL_PERCENT: f64 = 2.0;
/// What is offered, times the rate.
const OFFER: f64 = 1.5;
/// Bytes of IPv4 and UDP headers, and of IPv4 and TCP headers with timestamps.
const UDP_HEADERS: usize = 28;
const TCP_HEADERS: f64 = 52.0;
/// How long the queue fills before anything is counted, and how long is counted. Low rates take longer for as many packets.
const FILLED: Duration = Duration::from_millis(500);
const COUNTED: Duration = Duration::from_millis(1_200);
const COUNTED_AT_LOW_RATES: Duration = Duration::from_millis(2_500);
const LOW_RATE_BPS: u64 = 2_000_000;
/// What comes without such a pause before it belongs to what came before: a batch of segments takes half a second at a low rate.
const PAUSE: Duration = Duration::from_millis(2);
/// What never pauses is counted from anywhere after this time.
const BATCH: Duration = Duration::from_millis(100);
const BATCH_AT_LOW_RATES: Duration = Duration::from_millis(700);
const PORT: u16 = 7_500;
/// How long the first packet may take.
const PATIENCE: Duration = Duration::from_secs(10);

const MBIT: u64 = 1_000_000;

/// The kernel's queues, told the same rate, in its chain.
const PEERS: [(&str, Holder); 3] = [
    (
        "HTB in the kernel's chain",
        Holder::Kernels(&[
            "qdisc add dev u0 root handle 1: htb default 1",
            "class add dev u0 parent 1: classid 1:1 htb rate RATE",
        ]),
    ),
    ("TBF in the kernel's chain", Holder::Kernels(&["qdisc add dev u0 root tbf rate RATE burst 128kb latency 50ms"])),
    ("cake in the kernel's chain", Holder::Kernels(&["qdisc add dev u0 root cake bandwidth RATE"])),
];

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Datagrams whose IP packets have so many bytes.
    Udp(usize),
    /// One connection (cubic).
    Tcp,
}

impl Load {
    fn name(self) -> String {
        match self {
            Self::Udp(length) => format!("udp-{length}"),
            Self::Tcp => "tcp".to_owned(),
        }
    }
}

/// What one sender can offer half as much again of.
const CASES: [(u64, Load); 9] = [
    (MBIT, Load::Udp(1_300)),
    (MBIT, Load::Udp(100)),
    (MBIT, Load::Tcp),
    (10 * MBIT, Load::Udp(1_300)),
    (10 * MBIT, Load::Udp(100)),
    (10 * MBIT, Load::Tcp),
    (100 * MBIT, Load::Udp(1_300)),
    (100 * MBIT, Load::Tcp),
    (1_000 * MBIT, Load::Tcp),
];

/// How long is counted, and how long a batch takes at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    length: Duration,
    batch: Duration,
}

/// What came of one measurement.
#[derive(Debug, Clone, Copy)]
struct Held {
    percent_off: f64,
    /// Segments that were sent again; none of datagrams.
    retransmits: f64,
}

/// Rates up, in turns.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("rates: chains of namespaces are built");
    let (mut ours, mut kernels) = (Chain::build(run, Kind::Ours)?, Chain::build(run, Kind::Kernel)?);
    let mechanisms = mechanisms(&mut ours)?;
    let peers: Vec<_> = PEERS.into_iter().filter(|(_, holder)| kernels.hold(*holder, MBIT).is_ok()).collect();
    let rounds = run.rounds_of_a_long_measure();
    let mut rows = Vec::new();
    // No more passes through emulated processors.
    let most_bps = if is_emulated() { 10 * MBIT } else { u64::MAX };
    for (rate_bps, load) in CASES.into_iter().filter(|(rate_bps, _)| *rate_bps <= most_bps) {
        let mut all: Vec<[Samples; 2]> = (0..mechanisms.len() + peers.len()).map(|_| Default::default()).collect();
        for round in 0..rounds {
            run.say(&format!("rates: {} Mbit/s, {}, round {} of {rounds}", rate_bps / MBIT, load.name(), round + 1));
            let ours = mechanisms.iter().map(|(_, holder)| turn(&mut ours, *holder, rate_bps, load));
            let peers = peers.iter().map(|(_, holder)| turn(&mut kernels, *holder, rate_bps, load));
            for (held, [off, retransmits]) in ours.chain(peers).zip(&mut all) {
                let held = held.with_context(|| format!("{rate_bps} bit/s, {}", load.name()))?;
                off.push(held.percent_off);
                retransmits.push(held.retransmits);
            }
        }
        let of_peers = &all[mechanisms.len()..];
        for ((mechanism, _), [off, retransmits]) in mechanisms.iter().zip(&all) {
            let name = format!("rates/{mechanism}/{}mbit/{}", rate_bps / MBIT, load.name());
            for ((peer, _), [peer_off, peer_retransmits]) in peers.iter().zip(of_peers) {
                let kind = peer.split(' ').next().unwrap_or_default().to_lowercase();
                let row = Row::new(format!("{name}/beside-{kind}"), "% off", Better::Less, off.clone());
                rows.push(row.beside(peer, peer_off.clone()).reach(Goal::AtMost(GOAL_PERCENT)));
                if load == Load::Tcp && kind == "htb" {
                    let name = format!("{name}-retransmits");
                    let row = Row::new(name, "segments", Better::Less, retransmits.clone());
                    rows.push(row.beside(peer, peer_retransmits.clone()).reach(Goal::TimesPeer(1.0)));
                }
            }
        }
    }
    drop((ours, kernels));
    run.ledger.undo_all().into_iter().for_each(|failure| eprintln!("clean-up: {failure}"));
    Ok(rows)
}

/// Our own that this kernel has the queues for.
pub(super) fn mechanisms(ours: &mut Chain) -> Result<Vec<(&'static str, Holder)>> {
    let mut all = vec![("classes", Holder::Classes), ("departure-times", Holder::DepartureTimes)];
    all.retain(|(_, holder)| ours.hold(*holder, MBIT).is_ok());
    ensure!(!all.is_empty(), "this kernel holds no rate: it has neither HTB nor fq");
    Ok(all)
}

impl Counted {
    /// What a rate takes.
    pub(super) fn at(rate_bps: u64) -> Self {
        match rate_bps < LOW_RATE_BPS {
            true => Self { length: COUNTED_AT_LOW_RATES, batch: BATCH_AT_LOW_RATES },
            false => Self { length: COUNTED, batch: BATCH },
        }
    }
}

fn turn(chain: &mut Chain, holder: Holder, rate_bps: u64, load: Load) -> Result<Held> {
    chain.hold(holder, rate_bps)?;
    let counted = Counted::at(rate_bps);
    let (arrived_bps, retransmits) = match load {
        Load::Udp(length) => (datagrams(chain, OFFER * rate_bps as f64, length, counted)?, 0),
        Load::Tcp => connection(chain, counted)?,
    };
    let percent_off = (arrived_bps / rate_bps as f64 - 1.0).abs() * 100.0;
    Ok(Held { percent_off, retransmits: f64::from(retransmits) })
}

/// Inner bits per second of datagrams of `length` bytes that arrive where `offered_bps` are sent.
pub(super) fn datagrams(chain: &Chain, offered_bps: f64, length: usize, counted: Counted) -> Result<f64> {
    let sink = chain.server.run_inside(|| UdpSocket::bind((SERVER, PORT)))??;
    let source = chain.client.run_inside(|| UdpSocket::bind((CLIENT, 0)))??;
    sys::enlarge_receive_buffer(&sink)?;
    sink.set_read_timeout(Some(PATIENCE))?;
    source.connect((SERVER, PORT))?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sender =
            scope.spawn(|| flood(&source, start, FILLED + counted.length + counted.batch * 2, offered_bps, length));
        let arrived = count(start, counted, || {
            sink.recv(&mut [0; 2_048]).context("nothing arrives")?;
            Ok(length)
        });
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        arrived
    })
}

fn flood(source: &UdpSocket, start: Instant, length: Duration, offered_bps: f64, packet_bytes: usize) -> Result<()> {
    let payload = vec![7; packet_bytes - UDP_HEADERS];
    let mut outcome = Ok(());
    pace(start, length, offered_bps / 8.0 / packet_bytes as f64, || {
        if outcome.is_ok() {
            outcome = source.send(&payload).map(drop);
        }
    });
    Ok(outcome?)
}

/// Inner bits per second of a connection, and how many segments were sent again.
pub(super) fn connection(chain: &Chain, counted: Counted) -> Result<(f64, u32)> {
    let listener = chain.server.run_inside(|| TcpListener::bind((SERVER, PORT)))??;
    let mut source = chain.client.run_inside(|| TcpStream::connect((SERVER, PORT)))??;
    sys::set_congestion_control(&source, "cubic")?;
    let (mut sink, _) = listener.accept()?;
    sink.set_read_timeout(Some(PATIENCE))?;
    let segment_bytes = f64::from(sys::segment_bytes(&source)?);
    let start = Instant::now();
    let (payload_bps, source) = std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            // Whoever counts hangs up when it has seen enough.
            while source.write_all(&[7; 65_536]).is_ok() {}
            source
        });
        let mut buffer = vec![0; 1 << 20];
        let arrived = count(start, counted, || sink.read(&mut buffer).context("nothing arrives"));
        let _ = sink.shutdown(std::net::Shutdown::Both);
        drop(sink);
        let source = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        anyhow::Ok((arrived?, source))
    })?;
    Ok((payload_bps * (segment_bytes + TCP_HEADERS) / segment_bytes, sys::retransmit_count(&source)?))
}

/// Bits per second of what `receive` gives, bytes, from when the queue is full: from the beginning of a batch to that of another.
fn count(start: Instant, counted: Counted, mut receive: impl FnMut() -> Result<usize>) -> Result<f64> {
    let (mut last, mut begun, mut bytes) = (Instant::now(), None, 0);
    loop {
        let length = receive()?;
        let now = Instant::now();
        let is_beginning = |due: Duration| {
            let late = now.duration_since(start).checked_sub(due);
            late.is_some_and(|late| late >= counted.batch || now.duration_since(last) >= PAUSE)
        };
        match begun {
            None if is_beginning(FILLED) => (begun, bytes) = (Some(now), length),
            Some(begun) if is_beginning(FILLED + counted.batch + counted.length) => {
                return Ok(bytes as f64 * 8.0 / now.duration_since(begun).as_secs_f64());
            }
            _ => bytes += length,
        }
        last = now;
    }
}
