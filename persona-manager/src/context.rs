//! What handlers and tasks share.

use std::ops::Deref;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::access::Limits;
use crate::authority::Authority;
use crate::config::Config;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::tasks::assignment::Assigner;

/// State shared by handlers and tasks. One pointer: a request is handed on through layers, each of which clones it.
#[derive(Clone)]
pub(crate) struct Context(Arc<Shared>);

impl Context {
    /// Shares it.
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What is shared.
pub(crate) struct Shared {
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
