//! What a manager tells of itself: its place among managers, its store, its certificates, and what it serves.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Gauges, Reals, seconds};
use crate::authority::ends_ms;
use crate::context::Context;
use crate::store::Snapshot;

/// Characters of a root's id that are shown: enough to tell one from another.
const ROOT_ID_LENGTH: usize = 12;

/// Shows it all.
pub(super) fn register(registry: &mut Registry, context: &Context, snapshot: &Snapshot) {
    about(registry, context);
    store(registry, context, snapshot);
    certificates(registry, context, snapshot);
    context.metrics.register(registry);
}

fn about(registry: &mut Registry, context: &Context) {
    let build = Gauges::default();
    let labels = vec![("role", "manager".to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())];
    build.get_or_create(&labels).set(1);
    registry.register("build_info", "The program's version, by role", build);
    let leads: Gauge = Gauge::default();
    leads.set(context.store.standing().leads().into());
    registry.register(
        "manager_leads",
        "Whether this manager makes changes; of several on one database, one does",
        leads,
    );
}

fn store(registry: &mut Registry, context: &Context, snapshot: &Snapshot) {
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value as i64);
        registry.register(name, help, gauge);
    };
    gauge(registry, "store_revision", "The newest revision of the store that this manager has", snapshot.revision);
    let help = "How often the store was gone back with, and once more";
    gauge(registry, "store_incarnation", help, snapshot.incarnation.into());
    let help = "Changes that wait for the store's writer";
    gauge(registry, "store_waiting_jobs", help, context.store.waiting_count() as u64);
    let help = "Whether the store went back, and nodes and edges have not all said what they hold";
    gauge(registry, "store_recovering", help, u64::from(!snapshot.recovery.is_empty()));
    let events: Counter = Counter::default();
    events.inc_by(snapshot.event_last);
    registry.register("events", "Events in the store's log, with those that were dropped for their age", events);
    let measured = context.store.measured();
    registry.register("store_commit_seconds", "Time until a transaction was durable", measured.commits.clone());
    registry.register("pass_seconds", "Time of a pass over assignments and leases", measured.passes.clone());
    registry.register("store_failed_batches", "Batches of changes that were not stored", measured.failures.clone());
}

fn certificates(registry: &mut Registry, context: &Context, snapshot: &Snapshot) {
    let roots = Reals::default();
    for root in snapshot.roots.values().filter(|root| root.is_trusted()) {
        let id = root.id.chars().take(ROOT_ID_LENGTH).collect();
        roots.get_or_create(&vec![("root", id)]).set(seconds(ends_ms(&root.certificate)));
    }
    registry.register("root_expires_timestamp_seconds", "When a root certificate that is trusted ends", roots);
    let lifetime: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
    lifetime.set(seconds(context.config.certificate_lifetime_ms));
    let help = "How long certificates of nodes and edges are good for; they are renewed after half of it";
    registry.register("certificate_lifetime_seconds", help, lifetime);
}
