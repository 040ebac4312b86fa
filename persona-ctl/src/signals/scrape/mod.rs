//! A workload's own `/metrics`, asked for in the text format of Prometheus; what the configuration selects becomes signals.
//!
//! ```text
//!   [workload.metrics] ─► Scraper ─ own socket, in the workload's namespace ─► text, bounded ─► selections ─► metric.NAME
//! ```
//! A workload may answer whatever it likes: nothing is asked but the one address that this host's configuration writes out, no
//! name is looked up, no redirection followed, and size and time are bounded.

mod config;
mod exposition;
mod fetch;
mod scraper;

pub use config::{MetricsConfig, MetricsUrl};
pub use exposition::Selection;
pub(super) use scraper::Scrapers;
pub use scraper::{ScrapePlace, Target};
