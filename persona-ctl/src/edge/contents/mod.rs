//! Closeness to content: the edge measures its ways to the sources that the manager names, from its outside device, and reports them.
//!
//! ```text
//!   manager ──every 20 s: which──▶ asker ──▶ schedule ──one at a time──▶ way: echo, else connect ──▶ report
//! ```
//! One thread measures, so that nothing here delays anything else. An edge without a route out of its outside device measures
//! nothing, and says so by silence.

mod schedule;
mod way;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use persona_core::content::{Bounds, ContentSource, kept};
use persona_core::units::Cidr;
use persona_core::wire::contents::ContentRtts;
use persona_core::wire::desired::{DesiredState, Item};
use tokio_util::sync::CancellationToken;

use self::schedule::Schedule;
use super::observe::Observed;
use crate::manager_link::{Asker, Reporter, spread_of};
use crate::netlink::Netlink;

/// The manager is asked this often which sources there are, and a part of that sooner.
const ASK_INTERVAL: Duration = Duration::from_secs(20);

/// Nothing to measure yet: how long the thread sleeps at most.
const IDLE: Duration = Duration::from_secs(3_600);

/// Measures as long as it lives.
#[derive(Debug)]
pub(super) struct Contents {
    shared: Arc<Shared>,
    /// What the operator says.
    configured: Bounds,
}

#[derive(Debug, Default)]
struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
}

/// What the thread is to do.
#[derive(Debug, Default)]
struct Orders {
    is_stopping: bool,
    sources: Vec<ContentSource>,
    /// Where from, and where to. None: it is not known yet what must not be measured.
    ground: Option<Ground>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ground {
    /// The name of the outside device.
    device: String,
    bounds: Bounds,
}

impl Contents {
    /// Starts asking and measuring, within `configured` bounds.
    pub(super) fn start(
        configured: Bounds,
        asker: Asker,
        reporter: Reporter,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        std::thread::Builder::new().name("persona-content".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &reporter)
        })?;
        let orders = Arc::clone(&shared);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move { keep_asking(&asker, &orders).await }));
        Ok(Self { shared, configured })
    }

    /// Says where the edge stands: its devices, and what of the fleet nothing is measured towards.
    pub(super) async fn know(&self, netlink: &Netlink, observed: &Observed, desired: &DesiredState) {
        let Ok(addresses) = netlink.addresses().await else { return };
        let inside = addresses.iter().filter(|address| address.ifindex == observed.inside.index);
        let inside = inside.filter_map(|address| {
            let (network, length) = address.subnet();
            Cidr::new(network, length)
        });
        let own = addresses.iter().map(|address| Cidr::of(address.address));
        let mut bounds = self.configured.clone();
        bounds.deny.extend(inside.chain(own).chain(of_fleet(desired)));
        let ground = Some(Ground { device: observed.outside.name.clone(), bounds });
        let mut orders = self.shared.lock();
        if orders.ground != ground {
            orders.ground = ground;
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Contents {
    /// The thread ends after what it measures just now, which may take seconds: nobody waits for it.
    fn drop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The underlay's ends and the group's egress addresses.
fn of_fleet(desired: &DesiredState) -> Vec<Cidr> {
    let of_item = |item: &Item| match item {
        Item::Node(node) => vec![Cidr::of(node.address)],
        Item::Edge(edge) => vec![Cidr::of(edge.address)],
        Item::Pool(pool) => {
            let addresses = pool.addresses.iter().map(|address| Cidr::of((*address).into()));
            addresses.chain(pool.prefixes.iter().copied()).collect()
        }
        _ => Vec::new(),
    };
    desired.items.values().flat_map(of_item).collect()
}

/// Follows what the manager says is to be measured. One of an earlier release does not know the question.
async fn keep_asking(asker: &Asker, shared: &Shared) {
    let mut left_out_count = 0;
    loop {
        match asker.contents().await {
            Ok(contents) => {
                if contents.left_out_count != left_out_count && contents.left_out_count > 0 {
                    let message = "more sources of content than an edge measures: the others count as unmeasured";
                    tracing::warn!(content.count = contents.left_out_count, message);
                }
                left_out_count = contents.left_out_count;
                let mut orders = shared.lock();
                if orders.sources != contents.contents {
                    orders.sources = contents.contents;
                    shared.changed.notify_one();
                }
            }
            Err(error) => tracing::debug!(%error, "the manager does not say which sources of content there are"),
        }
        tokio::time::sleep(spread_of(ASK_INTERVAL)).await;
    }
}

fn run(shared: &Shared, reporter: &Reporter) {
    let (mut schedule, mut told) = (Schedule::default(), None::<ContentRtts>);
    loop {
        let Some((source, ground)) = next(shared, &mut schedule) else { return };
        let measured = way::measure(&source, &ground.device, &ground.bounds);
        match &measured {
            Ok(round_trip) => tracing::debug!(content = %source, round_trip.us = round_trip.as_micros(), "measured"),
            Err(why) => tracing::debug!(content = %source, why, "not measured"),
        }
        schedule.note(&source, measured.ok(), Instant::now(), spread_of);
        let known = schedule.round_trips();
        let news = match &told {
            // What wavers is not worth a report.
            Some(before) => kept(before, &known),
            // The manager may know of more from an earlier process, which stays until each has been looked at.
            None => schedule.is_whole().then_some(known),
        };
        if let Some(news) = news {
            told = Some(news.clone());
            reporter.report_now(|outbox| outbox.set_contents(news));
        }
    }
}

/// Waits for a source whose time has come. None: it is over.
fn next(shared: &Shared, schedule: &mut Schedule) -> Option<(ContentSource, Ground)> {
    let mut orders = shared.lock();
    loop {
        if orders.is_stopping {
            return None;
        }
        schedule.follow(&orders.sources, Instant::now());
        let due = schedule.next().filter(|_| orders.ground.is_some());
        let wait = due.as_ref().map_or(IDLE, |(_, at)| at.saturating_duration_since(Instant::now()));
        if let (Some((source, _)), Some(ground), true) = (due, &orders.ground, wait.is_zero()) {
            return Some((source, ground.clone()));
        }
        orders = shared.changed.wait_timeout(orders, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}
