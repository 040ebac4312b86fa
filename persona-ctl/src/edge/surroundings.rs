//! What hangs on the edge's devices: the data plane's attachment, the prober, the watcher and the guardian. When a device
//! vanishes and returns, or its address changes, all of it is made anew; the pinned maps keep what was in force.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use persona_core::ids::EdgeNumber;
use persona_core::liveness::Verdict;
use persona_core::wire::desired::ProbeItem;
use tokio::sync::mpsc;

use super::catch_up::CatchUp;
use super::config::EdgeConfig;
use super::guardian::{Audience, Guardian, News};
use super::hearing::Hearing;
use super::observe::{Observed, Senders};
use super::watcher::{Side, Watcher};
use crate::dataplane::{EdgeDataplane, EdgeOptions, PacketLogging, adjust_offloads};
use crate::netlink::Link;
use crate::packet_log::{self, Follower};
use crate::probe::Prober;

/// What everything here hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Footing {
    inside: (u32, Option<[u8; 6]>, Senders),
    outside: (u32, Option<[u8; 6]>, Senders),
    address: std::net::IpAddr,
}

/// The running whole. The guardian is dropped last: the others tell it.
pub(super) struct Surroundings {
    pub dataplane: Arc<Mutex<EdgeDataplane>>,
    pub prober: Prober,
    pub watcher: Watcher,
    pub hearing: Hearing,
    pub guardian: Guardian,
    footing: Footing,
    _packet_log: Option<Follower>,
}

impl Footing {
    fn of(observed: &Observed) -> Self {
        let device = |link: &Link, senders| (link.index, link.mac, senders);
        Self {
            inside: device(&observed.inside, observed.inside_senders),
            outside: device(&observed.outside, observed.outside_senders),
            address: observed.address,
        }
    }
}

impl Surroundings {
    /// Opens the data plane over what is pinned, and starts the threads. Blocks for as long as the verifier takes.
    pub(super) fn start(
        config: &EdgeConfig,
        observed: &Observed,
        audience: Audience,
        verdicts: &mpsc::Sender<(EdgeNumber, Verdict)>,
    ) -> anyhow::Result<Self> {
        let options = EdgeOptions {
            bpffs: config.bpffs.clone(),
            inside: observed.inside.index,
            outside: observed.outside.index,
            hook: config.file.hook.into(),
            coexist: config.file.coexist,
            logging: PacketLogging::from_flag(config.file.verbose_packets),
        };
        let mut dataplane = EdgeDataplane::open(&options).context("data plane cannot be opened")?;
        let packet_log = match options.logging {
            PacketLogging::Off => None,
            PacketLogging::On => Some(packet_log::follow(dataplane.packet_log(packet_log::tell)?)),
        };
        adjust_offloads(&config.bpffs, observed.inside.index, config.file.offloads);
        let ownership = dataplane.ownership_writer().context("ownership maps cannot be opened")?;
        let (inside, outside) = sides(config, observed);
        let probe = ProbeItem::default();
        let settle = Duration::from_millis(u64::from(probe.interval_ms) * u64::from(probe.multiplier + 1));
        let is_serving = ownership.is_outside_alive().context("outside's state cannot be read")?;
        let catch_up = CatchUp::at_start(is_serving, Instant::now());
        let guardian = Guardian::start(&outside, ownership, catch_up, config.neighbours(), audience, settle)
            .context("guardian cannot be started")?;
        let hearing = dataplane.heard_reader().context("map of heard nodes cannot be opened")?;
        let hearing = Hearing::start(hearing, guardian.news()).context("listener for nodes cannot be started")?;
        let watcher = start_watcher(inside, outside, &guardian).context("watcher cannot be started")?;
        let prober = start_prober(observed, &guardian, verdicts.clone()).context("prober cannot be started")?;
        let dataplane = Arc::new(Mutex::new(dataplane));
        Ok(Self {
            dataplane,
            prober,
            watcher,
            hearing,
            guardian,
            footing: Footing::of(observed),
            _packet_log: packet_log,
        })
    }

    /// Whether what was seen is no longer what this hangs on.
    pub(super) fn is_outdated(&self, observed: &Observed) -> bool {
        self.footing != Footing::of(observed)
    }

    /// A panic elsewhere must not stop the data plane from being told.
    pub(super) fn dataplane(&self) -> MutexGuard<'_, EdgeDataplane> {
        self.dataplane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sides(config: &EdgeConfig, observed: &Observed) -> (Side, Side) {
    let side = |link: &Link, senders: Senders| Side {
        ifindex: link.index,
        mac: link.mac.unwrap_or_default(),
        sender: senders.ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED),
        sender6: senders.ipv6.unwrap_or(Ipv6Addr::UNSPECIFIED),
        targets: Default::default(),
    };
    let inside = side(&observed.inside, observed.inside_senders);
    let outside = Side { targets: config.outside_targets(), ..side(&observed.outside, observed.outside_senders) };
    (inside, outside)
}

fn start_watcher(inside: Side, outside: Side, guardian: &Guardian) -> std::io::Result<Watcher> {
    let news = guardian.news();
    // The guardian outlives the watcher, or the process is ending.
    Watcher::start(inside, outside, Box::new(move |side, is_alive| drop(news.send(News::Side(side, is_alive)))))
}

fn start_prober(
    observed: &Observed,
    guardian: &Guardian,
    sender: mpsc::Sender<(EdgeNumber, Verdict)>,
) -> std::io::Result<Prober> {
    let news = guardian.news();
    let tell = move |peer, verdict: Verdict| {
        // The guardian outlives the prober, or the process is ending.
        let _ = news.send(News::Peer(peer, verdict.alive));
        // A full queue loses only an event: health is reported as it is, not as it changed.
        let _ = sender.try_send((peer, verdict));
    };
    Prober::start(observed.address, Box::new(tell))
}
