//! What handlers and tasks share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::access::Limits;
use crate::authority::Authority;
use crate::config::Config;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::tasks::assignment::Assigner;

/// State shared by handlers and tasks; clones share it.
#[derive(Clone)]
pub(crate) struct Context {
    /// The configuration.
    pub config: Arc<Config>,
    /// Intended state.
    pub store: Store,
    /// What agents reported.
    pub live: Arc<Live>,
    /// Decides assignments.
    pub assigner: Assigner,
    /// Makes certificates.
    pub authority: Arc<Authority>,
    /// How many requests anybody may send.
    pub limits: Arc<Limits>,
    /// The user that the manager runs as.
    pub own_uid: u32,
    /// URLs of the managers, for tokens.
    pub urls: Arc<[String]>,
    /// What it counts of its own work.
    pub metrics: Metrics,
    /// Cancelled when the manager stops.
    pub stop: CancellationToken,
}
