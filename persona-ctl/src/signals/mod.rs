//! What a node measures of itself and of its workloads, once a second, as signals of the catalogue.
//!
//! ```text
//!   /proc, control groups, data plane's counters, workloads' own pages ─► looks ─two of them─► rates ─► batch ─► report
//! ```
//! A source that is not there is a signal that is missing, never zero. `rates` is pure; the others only read.

mod host;
mod instance;
mod look;
mod meter;
mod scrape;
mod system;

pub use meter::{Measured, Meter};
pub use scrape::{MetricsConfig, MetricsUrl, ScrapePlace, Selection, Target};
pub(crate) use system::System;
