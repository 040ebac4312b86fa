//! What the store's writer measures of its own work, for operators.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the buckets, seconds: from a change in memory to a disk or a database that is about to be given up.
const SECONDS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Shared by the writer and whoever shows it: clones have the same numbers.
#[derive(Clone)]
pub(crate) struct Measured {
    /// How long it took to make a transaction durable, seconds.
    pub commits: Histogram,
    /// How long a pass took: assignment, leases and desired states, seconds.
    pub passes: Histogram,
    /// Batches of jobs that were not stored.
    pub failures: Counter,
}

impl Default for Measured {
    fn default() -> Self {
        let [commits, passes] = [Histogram::new(SECONDS), Histogram::new(SECONDS)];
        Self { commits, passes, failures: Counter::default() }
    }
}
