//! The node's agent: makes the desired state true on this host and keeps it true.
//!
//! Level-triggered: a pass looks at the kernel and at the desired state, closes the gap, reads back and reports. It is
//! started by news from the manager, the kernel or the prober, and once a second in any case; it takes no hint about
//! what changed.

mod advice;
mod budget;
pub(crate) mod cgroup;
mod changes;
mod conditions;
mod config;
mod configure;
mod cuts;
mod departing;
mod downward;
mod gai;
mod guard;
mod life;
mod observe;
mod pass;
mod places;
mod planned;
mod queue_drops;
pub(crate) mod queues;
mod report;
mod requests;
mod shared_rate;
mod slow;
mod tables;
mod telling;
mod trial;
mod workload_config;

pub use advice::{advice, own_cgroup};
pub use config::{
    AgentConfig, AgentFile, ConfigurationError, Guard, HostConfig, REDACTED, STATE_DIR, read_join_token, split_urls,
};
pub use configure::{ConfiguredLease, ConfiguredWorkload, Configurer, Reach, Trouble, withdraw_everything};
pub use departing::plain_departure;
pub use gai::keep as keep_gai_file;
pub use guard::{GuardReport, guard};
pub use life::run;
pub use queues::plain_shaper;
pub(crate) use report::edge_health;
pub use requests::{LocalError, ask as ask_agent};
pub use workload_config::{Told, WorkloadConfig, WorkloadConfigError};
