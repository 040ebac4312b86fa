//! From a role's report to the manager to what a scraper sees: both are told the same.

use std::collections::BTreeMap;

use persona_core::wire::agent::{EdgeHealth, LeaseUse, Report, SlowPathWork, SubjectCounters};

use super::snapshot::{EdgeSample, LeaseSample, LinkSample, Snapshot, SubjectSample};
use crate::manager_link::Link;

/// What a report says, as metrics. What it leaves out as unchanged is expected to be filled in.
pub fn of_report(report: &Report) -> Snapshot {
    let counters = report.counters.clone().unwrap_or_default();
    let subjects = counters.subjects.into_iter();
    Snapshot {
        drops: counters.drops,
        subjects: subjects.map(subject).collect(),
        personas: counters.personas,
        edges: report.edges.iter().flatten().map(edge).collect(),
        leases: report.leases.iter().map(lease).collect(),
        slow_path: slow_path(counters.slow_path),
        cut_flow_count: counters.cut_flows,
        own_edge: None,
        link: None,
        gateway: Vec::new(),
        generation: report.applied.0,
        is_rejected: report.rejected.is_some(),
    }
}

fn subject(counters: SubjectCounters) -> SubjectSample {
    let SubjectCounters { subject, traffic, opened_flows, dropped_packets } = counters;
    let subject = subject.to_string();
    SubjectSample { subject, traffic, opened_flow_count: opened_flows, dropped_packet_count: dropped_packets }
}

impl LinkSample {
    /// How a link stands now.
    pub fn of(link: &Link) -> Self {
        Self { is_connected: link.is_connected(), certificate_expires_ms: link.certificate_expires_ms() }
    }
}

fn slow_path(work: SlowPathWork) -> BTreeMap<String, u64> {
    let SlowPathWork { cut, waited, released, expired } = work;
    let named = [("cut", cut), ("waited", waited), ("released", released), ("expired", expired)];
    named.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn edge(health: &EdgeHealth) -> EdgeSample {
    let secs = |micros: u32| f64::from(micros) / 1_000_000.0;
    EdgeSample {
        edge: health.edge.to_string(),
        alive: health.alive,
        rtt_secs: health.rtt_us.map(secs),
        jitter_secs: health.jitter_us.map(secs),
        loss: health.loss.into(),
    }
}

fn lease(usage: &LeaseUse) -> LeaseSample {
    LeaseSample {
        lease: usage.lease.0,
        live_slot_count: usage.live_slot_count,
        slot_count: usage.slot_count,
        shared_port_count: usage.shared_port_count,
    }
}
