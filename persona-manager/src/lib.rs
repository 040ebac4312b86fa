//! The central server: the HTTP API and the SQL live only here.
//!
//! ```text
//!  people ──▶ api ──job──▶ store: one writer ──commit──▶ snapshot ──▶ watch streams ──▶ agents
//!                            │ after each batch of jobs                                   │
//!                            └─▶ tasks::assignment (pass on the draft) ◀── live ◀─report──┘
//! ```
//!
//! Whatever somebody changes and whatever follows from it (assignment, leases, desired states) becomes durable in one
//! transaction and is shown together. Nodes and edges come with client certificates of the manager's own CA,
//! people and programs with access tokens; `access` says who may use which route.
#![forbid(unsafe_code)]

mod access;
mod activation;
mod alone;
mod api;
mod auth;
mod authority;
mod body;
mod clock;
mod config;
mod contents;
mod context;
mod documents;
mod error;
mod forward;
mod live;
mod metrics;
mod once;
mod overrides;
mod passed_on;
mod planning;
mod pools;
mod pushed;
mod reach;
mod requests;
mod revocation;
mod rollouts;
mod schedules;
mod server;
#[cfg(test)]
mod simulation;
mod store;
mod tasks;
pub mod telemetry;
mod versions;
mod web;
mod webhooks;
mod what_if;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use authority::{AuthorityError, SealKeys, SealingError, SealingKeys};
pub use config::{CaConfig, Config, ConfigError};
pub use server::SocketError;
pub use store::{
    Backup, Migrated, Restored, StoreConfig, StoreError, StoreLocation, backup, migrate, restore, verify_audit,
};
pub use tasks::driver::Turn;
pub use tasks::lease_rate::leases_per_sec;

use crate::authority::{Authority, Tls};
use crate::context::{Context, Shared};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::server::{AdminSocket, Listeners};
use crate::store::Store;
use crate::tasks::assignment::Assigner;

/// A manager that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// Its store.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// Its certificate authority.
    #[error("the certificate authority cannot be used")]
    Authority(#[from] AuthorityError),
    /// Its own socket.
    #[error("administrators could not reach it")]
    Socket(#[from] SocketError),
    /// Its listener.
    #[error("the listener's address cannot be read")]
    Listener(#[source] std::io::Error),
    /// The first assignment could not be stored.
    #[error("the first pass failed: {0}")]
    FirstPass(String),
}

/// A running manager.
pub struct Handle {
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
    /// Signs the chain of events once nothing more happens.
    audit: JoinHandle<()>,
    quiet: DropGuard,
    writer: std::thread::JoinHandle<()>,
    turns: watch::Receiver<Turn>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Turns of its loop, several in a second; they end when it stops.
    pub fn turns(&self) -> watch::Receiver<Turn> {
        self.turns.clone()
    }

    /// Waits until it has stopped and everything is stored.
    pub async fn stopped(self) {
        let Self { tasks, audit, quiet, writer, .. } = self;
        wait_for(tasks).await;
        drop(quiet);
        wait_for([audit]).await;
        if !matches!(tokio::task::spawn_blocking(move || writer.join()).await, Ok(Ok(()))) {
            tracing::error!("the store's writer failed");
        }
    }
}

async fn wait_for(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(error.cause = %error, "a task of the manager failed");
        }
    }
}

/// Connections that may wait to be accepted, as far as the kernel permits (`net.core.somaxconn`): after an outage a whole fleet comes
/// back at once, and whoever finds no room asks again only after a second, then after two more.
const BACKLOG: u32 = 4_096;

/// Listens on an address, for [`start`].
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Starts a manager on `listener`; it runs until `stop` is cancelled.
pub async fn start(config: Config, listener: TcpListener, stop: CancellationToken) -> Result<Handle, StartError> {
    let address = listener.local_addr().map_err(StartError::Listener)?;
    config.check(address)?;
    let (config, live) = (Arc::new(config), Arc::new(Live::default()));
    let assigner = Assigner::new(config.clone(), live.clone());
    let (store, writer) = open_store(config.clone(), address, assigner.clone().into_brain()).await?;
    if store.standing().leads() {
        store.change(|_| Ok(())).await.map_err(|refusal| StartError::FirstPass(refusal.detail().to_owned()))?;
    }
    let authority = Authority::open(&config, address.ip(), &store).await?;
    let tls = match config.insecure_http {
        true => None,
        false => Some(Arc::new(Tls::new(authority.clone(), store.clone(), clock::now_ms())?)),
    };
    let socket = AdminSocket::bind(&config.state_dir())?;
    let own_uid = socket.owner()?;
    let listeners = Listeners { network: listener, tls, socket };
    let urls = config.urls_at(address).into();
    let limits = Arc::new(access::Limits::new(config.rate_limit_per_sec));
    let (metrics, stopping) = (Metrics::default(), stop.clone());
    let shared = Shared { config, store, live, assigner, authority, limits, own_uid, urls, metrics, stop: stopping };
    let context = Context::new(shared);
    let quiet = CancellationToken::new();
    let audit = tokio::spawn(tasks::audit::run(context.clone(), quiet.clone()));
    let (turn_sender, turns) = watch::channel(Turn::default());
    let driver = tokio::spawn(tasks::driver::run(context.clone(), turn_sender));
    let roots = tokio::spawn(tasks::roots::run(context.clone()));
    let webhooks = tokio::spawn(webhooks::run(context.clone()));
    let router = forward::around(api::router(context.clone()), context.clone());
    let router = requests::around(router, context.metrics.clone());
    let (connections_max, metrics) = (context.config.connections_max, context.metrics.clone());
    let server = server::serve(listeners, connections_max, router, context.store.trust(), metrics, stop);
    let server = tokio::spawn(server);
    tracing::info!(manager.address = %address, manager.pin = %context.authority.signing().pin(), "the manager listens");
    Ok(Handle {
        address,
        tasks: vec![driver, roots, webhooks, server],
        audit,
        quiet: quiet.drop_guard(),
        writer,
        turns,
    })
}

/// Opening waits for disks and databases: not on the runtime's own threads.
async fn open_store(
    config: Arc<Config>,
    address: SocketAddr,
    brain: store::Brain,
) -> Result<(Store, std::thread::JoinHandle<()>), StoreError> {
    let advertise = config.advertise_at(address);
    let open = move || {
        let backend = store::open(&config.store, &advertise)?;
        Store::start(backend, store::open_reader(&config.store)?, brain)
    };
    tokio::task::spawn_blocking(open).await.expect("opening a store does not panic")
}
