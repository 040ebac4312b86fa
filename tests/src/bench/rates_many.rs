//! A thousand subjects of one node, each held to its rate while each offers more: how far off they are, and what memory of the
//! kernel a queue for each takes. Beside it as many classes of HTB in the kernel's chain, told the same rate.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use persona_ctl::open_files::raise_limit;

use super::chain::{Chain, Holder, Kind, SERVER};
use super::crowd::Crowd;
use super::measures::Run;
use super::rates::mechanisms;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use crate::load::paced::pace;
use crate::sys;

/// How many at once: about as many as a node tells apart by source addresses.
const CROWD: Crowd = Crowd { count: 1_000 };
/// What each may send, bits per second: all together as much as two cores carry and count.
const RATE_BPS: u64 = 256_000;
/// How far off a rate may be, percent.
const GOAL_PERCENT: f64 = 2.0;
/// What is offered, times the rate.
const OFFER: f64 = 1.5;
/// Bytes of an IP packet, and of its IPv4 and UDP headers.
const PACKET_BYTES: usize = 1_300;
const HEADERS_BYTES: usize = 28;
/// What may pass at once is through by then; how long is counted.
const FILLED: Duration = Duration::from_millis(1_500);
const COUNTED: Duration = Duration::from_secs(4);
const PORT: u16 = 7_600;
/// How long no packet may come.
const PATIENCE: Duration = Duration::from_secs(5);
/// A class with its queue, and a cell, may take so much memory, KiB.
const CLASS_KIB_MAX: f64 = 6.0;
const CELL_KIB_MAX: f64 = 2.0;

/// What one turn gave.
struct Turn {
    /// How far off subjects are, percent: the middle one, and the one that ten are worse than.
    median: f64,
    worst: f64,
    /// What a queue for one takes, KiB.
    memory: f64,
}

/// Samples of a holder.
#[derive(Default)]
struct Held {
    median: Samples,
    worst: Samples,
    memory: Samples,
}

/// Ours and the kernel's, in turns.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    raise_limit();
    run.say("rates-many: chains of namespaces are built");
    let (mut ours, mut kernels) = (Chain::build(run, Kind::Ours)?, Chain::build(run, Kind::Kernel)?);
    [&ours, &kernels].into_iter().try_for_each(Chain::admit_crowd)?;
    let mechanisms = mechanisms(&mut ours)?;
    let rounds = run.rounds_of_a_long_measure();
    let (mut held, mut peer) = (Vec::new(), Held::default());
    held.resize_with(mechanisms.len(), Held::default);
    for round in 0..rounds {
        run.say(&format!("rates-many: round {} of {rounds}", round + 1));
        for ((_, holder), held) in mechanisms.iter().zip(&mut held) {
            held.push(turn(&mut ours, |ours| ours.hold_crowd(*holder, RATE_BPS, CROWD))?);
        }
        peer.push(turn(&mut kernels, |kernels| kernels.hold_crowd_kernels_way(RATE_BPS, CROWD))?);
    }
    let mut rows = Vec::new();
    for ((mechanism, holder), held) in mechanisms.iter().zip(held) {
        let kib_max = if *holder == Holder::DepartureTimes { CELL_KIB_MAX } else { CLASS_KIB_MAX };
        let row = |what: &str, unit, ours, peers: &Samples, most| {
            let row = Row::new(format!("rates-many/{mechanism}/{what}"), unit, Better::Less, ours);
            row.beside("HTB in the kernel's chain", peers.clone()).reach(Goal::AtMost(most))
        };
        rows.push(row("median of 1,000", "% off", held.median, &peer.median, GOAL_PERCENT));
        rows.push(row("worst but 10 of 1,000", "% off", held.worst, &peer.worst, GOAL_PERCENT));
        rows.push(row("kernel memory of each", "KiB", held.memory, &peer.memory, kib_max));
    }
    drop((ours, kernels));
    run.ledger.undo_all().into_iter().for_each(|failure| eprintln!("clean-up: {failure}"));
    Ok(rows)
}

impl Held {
    fn push(&mut self, turn: Turn) {
        self.median.push(turn.median);
        self.worst.push(turn.worst);
        self.memory.push(turn.memory);
    }
}

/// Everybody sends more than they may, held by what `hold` makes.
fn turn(chain: &mut Chain, hold: impl FnOnce(&mut Chain) -> Result<()>) -> Result<Turn> {
    let before = kernel_kib()?;
    hold(chain)?;
    let memory = (kernel_kib()? - before) / f64::from(CROWD.count);
    let mut off: Vec<f64> = offer(chain)?.into_iter().map(Seen::percent_off).collect();
    off.sort_by(f64::total_cmp);
    chain.let_go()?;
    Ok(Turn { median: off[off.len() / 2], worst: off[off.len() - 11], memory })
}

fn offer(chain: &Chain) -> Result<Vec<Seen>> {
    let sink = chain.server.run_inside(|| UdpSocket::bind((SERVER, PORT)))??;
    sys::enlarge_receive_buffer(&sink)?;
    sink.set_read_timeout(Some(PATIENCE))?;
    let sources: Vec<UdpSocket> = chain.client.run_inside(|| -> std::io::Result<_> {
        let connected = |address| {
            let source = UdpSocket::bind((address, 0))?;
            source.connect((SERVER, PORT))?;
            Ok(source)
        };
        CROWD.members().map(|member| connected(member.address())).collect()
    })??;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&sources, start));
        let seen = receive(&sink, start);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        seen
    })
}

/// One packet of each in turn; its first bytes say whose it is.
fn send(sources: &[UdpSocket], start: Instant) -> Result<()> {
    let mut payload = vec![0; PACKET_BYTES - HEADERS_BYTES];
    let per_sec = OFFER * RATE_BPS as f64 * sources.len() as f64 / 8.0 / PACKET_BYTES as f64;
    let (mut next, mut outcome) = (0, Ok(0));
    pace(start, FILLED + COUNTED, per_sec, || {
        if outcome.is_ok() {
            payload[..4].copy_from_slice(&(next as u32).to_be_bytes());
            outcome = sources[next].send(&payload);
            next = (next + 1) % sources.len();
        }
    });
    outcome.map(drop).context("a packet cannot be sent")
}

/// What came of one subject.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    first: Option<Duration>,
    last: Duration,
    packets_after_first: u64,
}

impl Seen {
    /// A subject of which nothing came is all of its rate off.
    fn percent_off(self) -> f64 {
        let time = self.last.saturating_sub(self.first.unwrap_or_default()).as_secs_f64();
        let bits = (self.packets_after_first * PACKET_BYTES as u64 * 8) as f64;
        if bits == 0.0 { 100.0 } else { (bits / time / RATE_BPS as f64 - 1.0).abs() * 100.0 }
    }
}

/// From the time on when what may pass at once is through.
fn receive(sink: &UdpSocket, start: Instant) -> Result<Vec<Seen>> {
    let mut seen = vec![Seen::default(); CROWD.count as usize];
    let mut buffer = [0; 2_048];
    while start.elapsed() < FILLED + COUNTED {
        let length = sink.recv(&mut buffer).context("nothing arrives")?;
        let now = start.elapsed();
        let whose = buffer[..length].first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize);
        let Some(seen) = whose.and_then(|index| seen.get_mut(index)).filter(|_| now > FILLED) else { continue };
        match seen.first {
            None => seen.first = Some(now),
            Some(_) => (seen.packets_after_first, seen.last) = (seen.packets_after_first + 1, now),
        }
    }
    Ok(seen)
}

/// Memory that the kernel keeps for itself, KiB: slabs and what processors have of their own.
fn kernel_kib() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} here"))?;
        line.trim().trim_end_matches(" kB").parse::<f64>().with_context(|| format!("{name} {line}"))
    };
    Ok(of("SUnreclaim:")? + of("Percpu:")?)
}
