//! What this manager counts of its own work, of which its store's writer has the other part. Nobody decides by it.
//!
//! Every label has few values: routes, methods, answers and roles are the program's own, and never what somebody sent.

use persona_core::wire::agent::Role;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Names and values of a sample's labels.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Upper bounds of the buckets of answers, seconds: a request that takes thirty is given up.
const ANSWER_SECONDS: [f64; 8] = [0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 30.0];

/// Shared by all who count and whoever shows it: clones have the same numbers.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    answers: Family<Labels, Histogram, fn() -> Histogram>,
    watches: Family<Labels, Gauge>,
    connections: Family<Labels, Gauge>,
    turned_away: Counter,
}

/// Whose a connection is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    /// That of somebody on the network without a client certificate.
    Stranger,
    /// That of a node, an edge or another manager.
    Member,
    /// That of somebody on the manager's host.
    Local,
}

impl Default for Metrics {
    fn default() -> Self {
        let answers = Family::new_with_constructor((|| Histogram::new(ANSWER_SECONDS)) as fn() -> Histogram);
        let (requests, watches, connections, turned_away) = Default::default();
        let metrics = Self { requests, answers, watches, connections, turned_away };
        // No stream is a number too.
        for role in [Role::Node, Role::Edge] {
            drop(metrics.watching(role));
        }
        for whose in [Whose::Stranger, Whose::Member, Whose::Local] {
            drop(metrics.connected(whose));
        }
        metrics
    }
}

impl Metrics {
    /// Counts a request that was answered after so many seconds. A stream is answered when it begins.
    pub(crate) fn answered(&self, method: &'static str, route: &str, status: u16, seconds: f64) {
        let route = ("route", route.to_owned());
        let labels = vec![("method", method.to_owned()), route.clone(), ("status", status.to_string())];
        self.requests.get_or_create(&labels).inc();
        self.answers.get_or_create(&vec![route]).observe(seconds);
    }

    /// Counts a stream of desired state for as long as what it returns is there.
    pub(crate) fn watching(&self, role: Role) -> Watching {
        let role = if role == Role::Node { "node" } else { "edge" };
        let gauge = self.watches.get_or_create(&vec![("role", role.to_owned())]).clone();
        gauge.inc();
        Watching(gauge)
    }

    /// Counts a connection for as long as what it returns is there.
    pub(crate) fn connected(&self, whose: Whose) -> Watching {
        let whose = match whose {
            Whose::Stranger => "stranger",
            Whose::Member => "member",
            Whose::Local => "local",
        };
        let gauge = self.connections.get_or_create(&vec![("whose", whose.to_owned())]).clone();
        gauge.inc();
        Watching(gauge)
    }

    /// Counts a connection for which there was no place.
    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// Shows it all.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests answered, by method, route and status", self.requests.clone());
        registry.register("http_request_seconds", "Time until a request was answered, by route", self.answers.clone());
        registry.register("watches", "Nodes and edges that follow their desired state here", self.watches.clone());
        let help = "Connections, by whose they are: with a client certificate, without, from the manager's own host";
        registry.register("connections", help, self.connections.clone());
        let help = "Connections that were closed at once because there was no place for them";
        registry.register("connections_turned_away", help, self.turned_away.clone());
    }
}

/// A stream or a connection that is counted.
pub(crate) struct Watching(Gauge);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.dec();
    }
}
