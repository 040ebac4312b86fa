//! What the long-running roles share on the command line, and how they run.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::dataplane::{Coexistence, Offloads};
use crate::logging::{self, LogFormat};
use crate::memory;
use crate::shutdown;

/// A join token itself.
const JOIN_TOKEN_VARIABLE: &str = "PERSONA_JOIN_TOKEN";

/// Flags of every role that follows a manager; each goes over the same key of the configuration file.
#[derive(Debug, Args)]
pub(super) struct RoleArgs {
    /// Configuration file (TOML).
    #[arg(long, env = "PERSONA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Name, unique per role.
    #[arg(long, env = "PERSONA_NAME")]
    pub name: Option<String>,
    /// File that holds the join token. The variable PERSONA_JOIN_TOKEN may hold the token itself: arguments are for all to see.
    #[arg(long, env = "PERSONA_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Directory for the key, the certificate and the last desired state.
    #[arg(long, env = "PERSONA_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory on a bpffs where maps and links are pinned.
    #[arg(long, env = "PERSONA_BPFFS")]
    pub bpffs: Option<PathBuf>,
    /// Address on the underlay.
    #[arg(long, env = "PERSONA_ADDRESS")]
    pub address: Option<IpAddr>,
    /// Where metrics are served in plain HTTP, such as 127.0.0.1:9600: loopback or a management address.
    #[arg(long, env = "PERSONA_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Have the programs log what becomes of every packet: verdict, drop reason, device, subject, protocol. Slow.
    #[arg(long, env = "PERSONA_VERBOSE_PACKETS")]
    pub verbose_packets: bool,
    /// What is done about programs of others at the same hooks.
    #[arg(long, env = "PERSONA_COEXIST", value_enum)]
    pub coexist: Option<Coexistence>,
    /// What is done about offloads of the device towards tunnels that lose packets.
    #[arg(long, env = "PERSONA_OFFLOADS", value_enum)]
    pub offloads: Option<Offloads>,
    /// How log lines look.
    #[arg(long, env = "PERSONA_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// The keys that the agent's file and the edge's have in common.
pub(super) struct CommonKeys<'a, N> {
    pub name: &'a mut Option<N>,
    pub manager: &'a mut Option<String>,
    pub join_token: &'a mut Option<String>,
    pub join_token_file: &'a mut Option<PathBuf>,
    pub state_dir: &'a mut Option<PathBuf>,
    pub bpffs: &'a mut Option<PathBuf>,
    pub address: &'a mut Option<IpAddr>,
    pub metrics: &'a mut Option<SocketAddr>,
    pub verbose_packets: &'a mut bool,
    pub coexist: &'a mut Coexistence,
    pub offloads: &'a mut Offloads,
}

impl RoleArgs {
    /// What the configuration file says; without one, what a file with nothing in it does.
    pub(super) fn file<F: DeserializeOwned + Default>(&self) -> anyhow::Result<F> {
        Ok(self.config.as_deref().map(config::load).transpose()?.unwrap_or_default())
    }

    /// Puts the flags and variables that are given over the keys of the file.
    pub(super) fn put_over<N>(self, manager: Option<String>, keys: CommonKeys<'_, N>) -> anyhow::Result<()>
    where
        N: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        overlay(keys.name, self.name.map(|name| name.parse()).transpose()?);
        overlay(keys.manager, manager);
        overlay(keys.join_token, std::env::var(JOIN_TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()));
        overlay(keys.join_token_file, self.join_token_file);
        overlay(keys.state_dir, self.state_dir);
        overlay(keys.bpffs, self.bpffs);
        overlay(keys.address, self.address);
        overlay(keys.metrics, self.metrics);
        *keys.offloads = self.offloads.unwrap_or(*keys.offloads);
        *keys.verbose_packets |= self.verbose_packets;
        *keys.coexist = self.coexist.unwrap_or(*keys.coexist);
        Ok(())
    }
}

/// Puts a flag, where it is given, over a key of the file.
pub(super) fn overlay<T>(key: &mut Option<T>, flag: Option<T>) {
    if flag.is_some() {
        *key = flag;
    }
}

/// Threads of a role that wait for files, runtimes and the kernel; more at a time wait for one of them.
const WAITING_THREAD_COUNT: usize = 32;

/// … and end when they had nothing to do for so long. They take turns, so that with a longer time all that ever were needed at once
/// would be kept by a few tasks a second.
const WAITING_THREAD_TIME: Duration = Duration::from_secs(2);

/// Runs a role until SIGINT or SIGTERM.
pub(super) fn run<F>(format: LogFormat, role: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    memory::share_pools();
    logging::start(format);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.max_blocking_threads(WAITING_THREAD_COUNT).thread_keep_alive(WAITING_THREAD_TIME);
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async { role(shutdown::on_signal()?).await })
}
