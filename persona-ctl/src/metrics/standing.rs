//! Which program a role is, and how it stands with the manager, as metrics.

use prometheus_client::registry::Unit;

use super::family::Family;
use super::snapshot::Snapshot;

/// What every role tells, as far as it is known.
pub(super) fn gauges(snapshot: &Snapshot) -> Vec<Family<f64>> {
    let role = match (&snapshot.own_edge, &snapshot.link, snapshot.gateway.as_slice()) {
        (Some(_), ..) => "edge",
        (None, Some(_), _) => "agent",
        (None, None, [_, ..]) => "gateway",
        (None, None, []) => return Vec::new(),
    };
    let labels = vec![("role", role.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())];
    let build =
        Family { name: "build_info", help: "The program's version, by role", unit: None, samples: vec![(labels, 1.0)] };
    let Some(link) = snapshot.link else { return vec![build] };
    let one = |value: f64| vec![(Vec::new(), value)];
    let ends = link.certificate_expires_ms.map(|ms| (Vec::new(), ms as f64 / 1_000.0));
    vec![
        build,
        Family {
            name: "manager_connected",
            help: "Whether a manager's stream of desired state is open",
            unit: None,
            samples: one(f64::from(u8::from(link.is_connected))),
        },
        Family {
            name: "certificate_expires_timestamp",
            help: "When the certificate at hand ends",
            unit: Some(Unit::Seconds),
            samples: ends.into_iter().collect(),
        },
    ]
}
