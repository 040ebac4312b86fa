//! Measures everything once a turn, in a thread that may block, and puts what it found into the next report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use persona_core::ids::{NodeName, SubjectId, WorkloadName};
use persona_core::wire::agent::{Counters, SubjectCounters, Traffic};
use persona_core::wire::signals::{SampleBatch, SampleRow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::host;
use super::instance::Instance;
use super::look::{Look, Looks, Name, Values};
use super::scrape::{Scrapers, Target};
use crate::guest_link::Heard;
use crate::limits::{InstanceConfig, LimitsConfig, disks};
use crate::manager_link::Reporter;

/// What the data plane counted, and when that was read.
type Counted = Option<(Instant, Arc<Counters>)>;

/// What is measured of a workload beside its traffic.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Its instance.
    pub instance: Option<InstanceConfig>,
    /// Its own page of metrics.
    pub metrics: Option<Target>,
}

/// Measures a node and its workloads.
#[derive(Debug)]
pub struct Meter {
    counted: watch::Sender<Counted>,
}

impl Meter {
    /// Starts to measure, a batch with every [`turn`](Self::turn). Ends with `stop`.
    pub fn start(
        node: NodeName,
        workloads: BTreeMap<WorkloadName, Measured>,
        guests: Heard,
        limits: LimitsConfig,
        reporter: Reporter,
        stop: &CancellationToken,
    ) -> Self {
        let disks = disks(&limits.sys_block);
        let (mut instances, mut pages) = (BTreeMap::new(), BTreeMap::new());
        for (name, Measured { instance, metrics }) in workloads {
            instances.extend(instance.map(|config| (name.clone(), Instance::new(config))));
            pages.extend(metrics.map(|target| (name, target)));
        }
        let scrapers = Scrapers::start(pages, &limits, stop);
        let (host, traffic) = Default::default();
        let round = Round { node, host, disks, instances, scrapers, guests, traffic, limits };
        let (counted, receiver) = watch::channel(None);
        tokio::spawn(stop.clone().run_until_cancelled_owned(run(round, receiver, reporter)));
        Self { counted }
    }

    /// Whether each turn ends with a report.
    pub fn is_running(&self) -> bool {
        !self.counted.is_closed()
    }

    /// Measures now, or when the last turn is over; with what the data plane counted so far.
    pub fn turn(&self, counters: Arc<Counters>) {
        self.counted.send_replace(Some((Instant::now(), counters)));
    }
}

async fn run(mut round: Round, mut counted: watch::Receiver<Counted>, reporter: Reporter) {
    while counted.changed().await.is_ok() {
        let Some((at, counters)) = counted.borrow_and_update().clone() else { continue };
        let done = tokio::task::spawn_blocking(move || {
            let batch = round.turn(at, &counters);
            (round, batch)
        });
        let batch = match done.await {
            Ok((same, batch)) => {
                round = same;
                batch
            }
            Err(error) => return tracing::error!(%error, "signals are no longer measured until the next start"),
        };
        reporter.report_now(|outbox| outbox.push_samples(batch));
    }
}

/// Everything that is measured, and what it was the last time.
#[derive(Debug)]
struct Round {
    node: NodeName,
    host: Looks,
    disks: Vec<String>,
    instances: BTreeMap<WorkloadName, Instance>,
    scrapers: Scrapers,
    guests: Heard,
    traffic: BTreeMap<Option<WorkloadName>, Looks>,
    limits: LimitsConfig,
}

impl Round {
    fn turn(&mut self, at: Instant, counters: &Counters) -> SampleBatch {
        let (mut look, size) = host::look_at(Path::new("/proc"), &self.disks);
        host::look_at_disk(Path::new("/"), &mut look);
        let mut rows: BTreeMap<Option<WorkloadName>, Values> = BTreeMap::new();
        rows.insert(None, self.host.next(Instant::now(), look));
        for (name, instance) in &mut self.instances {
            rows.insert(Some(name.clone()), instance.turn(&self.limits, size));
        }
        for (name, values) in self.scrapers.values(Instant::now()) {
            rows.entry(Some(name.clone())).or_default().extend(values);
        }
        for (name, values) in self.guests.values() {
            let inside = values.into_iter().map(|(signal, value)| (Name::from(format!("guest.{signal}")), value));
            rows.entry(Some(name)).or_default().extend(inside);
        }
        for (workload, look) in traffic_of(&self.node, counters) {
            let values = self.traffic.entry(workload.clone()).or_default().next(at, look);
            rows.entry(workload).or_default().extend(values);
        }
        table_of(rows)
    }
}

/// What the data plane counted of each workload, and under no name of all subjects of the node together.
fn traffic_of(node: &NodeName, counters: &Counters) -> BTreeMap<Option<WorkloadName>, Look> {
    let mut all: BTreeMap<Option<WorkloadName>, Totals> = BTreeMap::new();
    for subject in &counters.subjects {
        let own = match &subject.subject {
            SubjectId::Workload(of, name) if of == node => Some(Some(name.clone())),
            _ => None,
        };
        for key in own.into_iter().chain([None]) {
            all.entry(key).or_default().add(subject);
        }
    }
    // All of the node's: many are dropped before it is known whose they are.
    all.entry(None).or_default().drop_count = counters.drops.values().sum();
    all.into_iter().map(|(key, totals)| (key, totals.look())).collect()
}

/// What was counted of some subjects together.
#[derive(Debug, Default)]
struct Totals {
    traffic: Traffic,
    opened_flow_count: u64,
    drop_count: u64,
}

impl Totals {
    fn add(&mut self, subject: &SubjectCounters) {
        let (sum, more) = (&mut self.traffic, &subject.traffic);
        sum.egress_bytes += more.egress_bytes;
        sum.egress_packets += more.egress_packets;
        sum.ingress_bytes += more.ingress_bytes;
        sum.ingress_packets += more.ingress_packets;
        self.opened_flow_count += subject.opened_flows;
        self.drop_count += subject.dropped_packets;
    }

    fn look(&self) -> Look {
        let (traffic, mut look) = (&self.traffic, Look::default());
        let mut total = |signal: &'static str, count: u64| look.total(signal, Some(count as f64));
        total("network.connections", self.opened_flow_count);
        total("network.drops", self.drop_count);
        total("network.egress_bytes", traffic.egress_bytes);
        total("network.egress_packets", traffic.egress_packets);
        total("network.ingress_bytes", traffic.ingress_bytes);
        total("network.ingress_packets", traffic.ingress_packets);
        total("network.processed_bytes", traffic.egress_bytes + traffic.ingress_bytes);
        look
    }
}

/// A column per signal that somebody has.
fn table_of(rows: BTreeMap<Option<WorkloadName>, Values>) -> SampleBatch {
    // Most have the same signals as the one before.
    let mut names: BTreeSet<Name> = BTreeSet::new();
    let mut before: Option<&Values> = None;
    for values in rows.values() {
        if before.is_none_or(|before| !before.names().eq(values.names())) {
            names.extend(values.names().cloned());
        }
        before = Some(values);
    }
    let row = |(workload, values): (Option<WorkloadName>, Values)| {
        let mut own = values.iter().peekable();
        let value_of = |name: &Name| own.next_if(|(known, _)| known == name).map(|(_, value)| *value as f32);
        SampleRow { workload, values: names.iter().map(value_of).collect() }
    };
    let rows = rows.into_iter().filter(|(_, values)| !values.is_empty()).map(row).collect();
    SampleBatch { age_ms: 0, signals: names.into_iter().map(Name::into_owned).collect(), rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_told_per_workload_and_of_the_node_as_a_whole() {
        let counted = |subject: &str, bytes, opened_flows| SubjectCounters {
            subject: subject.parse().unwrap(),
            traffic: Traffic { egress_bytes: bytes, ingress_bytes: 1, ..Traffic::default() },
            opened_flows,
            dropped_packets: 2,
        };
        let subjects = vec![counted("workload/n1/web", 10, 4), counted("node/n1", 5, 3)];
        let counters = Counters { subjects, drops: [("no-edge".to_owned(), 9)].into(), ..Counters::default() };
        let looks = traffic_of(&"n1".parse().unwrap(), &counters);
        let total = |key: Option<&str>, name| {
            let look = &looks[&key.map(|key| key.parse().unwrap())];
            look.totals.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
        };
        let names = ["network.egress_bytes", "network.processed_bytes", "network.connections", "network.drops"];
        assert_eq!(names.map(|name| total(Some("web"), name)), [10.0, 11.0, 4.0, 2.0].map(Some));
        assert_eq!(
            names.map(|name| total(None, name)),
            [15.0, 17.0, 7.0, 9.0].map(Some),
            "drops of nobody are the node's"
        );
    }

    #[test]
    fn a_table_has_a_column_for_each_signal_and_null_where_there_is_none() {
        let rows = [
            (None, Values::from([("cpu.usage".into(), 0.5)])),
            (Some("web".parse().unwrap()), Values::from([("memory.bytes".into(), 7.0)])),
            (Some("gone".parse().unwrap()), Values::default()),
        ];
        let batch = table_of(rows.into());
        assert_eq!(batch.signals, ["cpu.usage", "memory.bytes"]);
        assert_eq!((&batch.rows[0].values, &batch.rows[1].values), (&vec![Some(0.5), None], &vec![None, Some(7.0)]));
        assert_eq!(batch.rows.len(), 2);
    }
}
