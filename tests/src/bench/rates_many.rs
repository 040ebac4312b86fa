//! A thousand subjects of one node, and ten thousand, each held to its rate while each offers more: how far off they are, and what
//! memory of the kernel a queue for each takes. Beside it as many classes of HTB in the kernel's chain, told the same rate.

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

/// Subjects at once, and what each is held to.
struct Load {
    crowd: Crowd,
    /// As it stands in names of rows.
    name: &'static str,
    /// What each may send, bits per second: all together as much as two cores carry and count.
    rate_bps: u64,
    /// What may pass at once is through by then.
    filled: Duration,
    /// How long is counted after it.
    counted: Duration,
}

const LOADS: [Load; 2] = [
    Load {
        crowd: Crowd { count: 1_000 },
        name: "1,000",
        rate_bps: 256_000,
        filled: Duration::from_millis(1_500),
        counted: Duration::from_secs(4),
    },
    Load {
        crowd: Crowd { count: 10_000 },
        name: "10,000",
        rate_bps: 25_600,
        filled: Duration::from_secs(8),
        counted: Duration::from_secs(8),
    },
];
/// How far off a rate may be, percent.
const GOAL_PERCENT: f64 = 2.0;
/// What is offered, times the rate.
const OFFER: f64 = 1.5;
/// Bytes of an IP packet, and of its IPv4 and UDP headers.
const PACKET_BYTES: usize = 1_300;
const HEADERS_BYTES: usize = 28;
const PORT: u16 = 7_600;
/// How long no packet may come.
const PATIENCE: Duration = Duration::from_secs(5);
/// A class with its queue, and a cell, may take so much memory, KiB.
const CLASS_KIB_MAX: f64 = 6.0;
const CELL_KIB_MAX: f64 = 2.0;

/// What one turn gave.
struct Turn {
    /// How far off subjects are, percent: the middle one, and the one that a hundredth of all is worse than.
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
    let mut rows = Vec::new();
    for load in &LOADS {
        rows.extend(under(load, run, &mechanisms, &mut ours, &mut kernels)?);
    }
    drop((ours, kernels));
    run.ledger.undo_all().into_iter().for_each(|failure| eprintln!("clean-up: {failure}"));
    Ok(rows)
}

fn under(
    load: &Load,
    run: &Run<'_>,
    mechanisms: &[(&str, Holder)],
    ours: &mut Chain,
    kernels: &mut Chain,
) -> Result<Vec<Row>> {
    let rounds = run.rounds_of_a_long_measure();
    let (mut held, mut peer) = (Vec::new(), Held::default());
    held.resize_with(mechanisms.len(), Held::default);
    for round in 0..rounds {
        run.say(&format!("rates-many: {} subjects, round {} of {rounds}", load.name, round + 1));
        for ((_, holder), held) in mechanisms.iter().zip(&mut held) {
            held.push(turn(load, ours, |ours| ours.hold_crowd(*holder, load.rate_bps, load.crowd))?);
        }
        peer.push(turn(load, kernels, |kernels| kernels.hold_crowd_kernels_way(load.rate_bps, load.crowd))?);
    }
    let mut rows = Vec::new();
    for ((mechanism, holder), held) in mechanisms.iter().zip(held) {
        let kib_max = if *holder == Holder::DepartureTimes { CELL_KIB_MAX } else { CLASS_KIB_MAX };
        let row = |what: String, unit, ours, peers: &Samples, most| {
            let row = Row::new(format!("rates-many/{mechanism}/{what}"), unit, Better::Less, ours);
            row.beside("HTB in the kernel's chain", peers.clone()).reach(Goal::AtMost(most))
        };
        let of = |what: &str| format!("{what} of {}", load.name);
        rows.push(row(of("median"), "% off", held.median, &peer.median, GOAL_PERCENT));
        rows.push(row(of("worst but 1 %"), "% off", held.worst, &peer.worst, GOAL_PERCENT));
        rows.push(row(of("kernel memory of each"), "KiB", held.memory, &peer.memory, kib_max));
    }
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
fn turn(load: &Load, chain: &mut Chain, hold: impl FnOnce(&mut Chain) -> Result<()>) -> Result<Turn> {
    let before = kernel_kib()?;
    hold(chain)?;
    let memory = (kernel_kib()? - before) / f64::from(load.crowd.count);
    let mut off: Vec<f64> = offer(load, chain)?.into_iter().map(|seen| seen.percent_off(load.rate_bps)).collect();
    off.sort_by(f64::total_cmp);
    chain.let_go()?;
    Ok(Turn { median: off[off.len() / 2], worst: off[off.len() - 1 - off.len() / 100], memory })
}

fn offer(load: &Load, chain: &Chain) -> Result<Vec<Seen>> {
    let sink = chain.server.run_inside(|| UdpSocket::bind((SERVER, PORT)))??;
    sys::enlarge_receive_buffer(&sink)?;
    sink.set_read_timeout(Some(PATIENCE))?;
    let sources: Vec<UdpSocket> = chain.client.run_inside(|| -> std::io::Result<_> {
        let connected = |address| {
            let source = UdpSocket::bind((address, 0))?;
            source.connect((SERVER, PORT))?;
            Ok(source)
        };
        load.crowd.members().map(|member| connected(member.address())).collect()
    })??;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(load, &sources, start));
        let seen = receive(load, &sink, start);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        seen
    })
}

/// One packet of each in turn; its first bytes say whose it is.
fn send(load: &Load, sources: &[UdpSocket], start: Instant) -> Result<()> {
    let mut payload = vec![0; PACKET_BYTES - HEADERS_BYTES];
    let per_sec = OFFER * load.rate_bps as f64 * sources.len() as f64 / 8.0 / PACKET_BYTES as f64;
    let (mut next, mut outcome) = (0, Ok(0));
    pace(start, load.filled + load.counted, per_sec, || {
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
    fn percent_off(self, rate_bps: u64) -> f64 {
        let time = self.last.saturating_sub(self.first.unwrap_or_default()).as_secs_f64();
        let bits = (self.packets_after_first * PACKET_BYTES as u64 * 8) as f64;
        if bits == 0.0 { 100.0 } else { (bits / time / rate_bps as f64 - 1.0).abs() * 100.0 }
    }
}

/// From the time on when what may pass at once is through.
fn receive(load: &Load, sink: &UdpSocket, start: Instant) -> Result<Vec<Seen>> {
    let mut seen = vec![Seen::default(); load.crowd.count as usize];
    let mut buffer = [0; 2_048];
    while start.elapsed() < load.filled + load.counted {
        let length = sink.recv(&mut buffer).context("nothing arrives")?;
        let now = start.elapsed();
        let whose = buffer[..length].first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize);
        let Some(seen) = whose.and_then(|index| seen.get_mut(index)).filter(|_| now > load.filled) else { continue };
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
