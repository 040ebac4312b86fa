//! Limits on real control groups of our own, of whichever version the kernel has: v1 on many hosts, v2 in the guests.

mod apply;
mod child;
mod group;
mod hostile;
mod killed;
mod shrink;

use persona_core::limit::Limits;
use persona_core::wire::limits::{LimitReport, LimitState, SubjectResources};
use persona_ctl::limits::Wish;

/// Six limits that every kernel with control groups knows.
fn six(devices: &[String]) -> Limits {
    Limits {
        cpu_us_per_sec: Some(500_000),
        cpu_weight: Some(200),
        memory_max_bytes: Some(256 << 20),
        pids_max: Some(512),
        read_bytes_per_sec: (!devices.is_empty()).then_some(10 << 20),
        writes_per_sec: (!devices.is_empty()).then_some(1_000),
        ..Limits::default()
    }
}

fn wears(limits: Limits) -> Wish {
    Wish::Wears(SubjectResources { persona: "p".parse().unwrap(), version: 1, limits })
}

fn assert_in_force(report: &LimitReport) {
    assert_eq!((report.state, &report.reason), (LimitState::InForce, &None), "{report:?}");
    let wanted: Vec<_> = report.wanted.fields();
    let actual = report.actual.fields();
    assert!(wanted.iter().all(|field| actual.contains(field)), "{wanted:?} {actual:?}");
}
