//! What the long-running roles share on the command line, and how they run.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::client::MANAGER_DEFAULT;
use crate::logging::{self, LogFormat};
use crate::shutdown;

/// Flags of every role that follows a manager; each goes over the same key of the configuration file.
#[derive(Debug, Args)]
pub(super) struct RoleArgs {
    /// Configuration file (TOML).
    #[arg(long, env = "PERSONA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Name, unique per role.
    #[arg(long, env = "PERSONA_NAME")]
    pub name: Option<String>,
    /// Join token.
    #[arg(long, env = "PERSONA_JOIN_TOKEN", hide_env_values = true)]
    pub join_token: Option<String>,
    /// File that holds the join token.
    #[arg(long, env = "PERSONA_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Directory for the key, the bearer and the last desired state.
    #[arg(long, env = "PERSONA_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory on a bpffs where maps and links are pinned.
    #[arg(long, env = "PERSONA_BPFFS")]
    pub bpffs: Option<PathBuf>,
    /// Address on the underlay.
    #[arg(long, env = "PERSONA_ADDRESS")]
    pub address: Option<IpAddr>,
    /// How log lines look.
    #[arg(long, env = "PERSONA_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Puts a flag, where it is given, over a key of the file.
pub(super) fn overlay<T>(key: &mut Option<T>, flag: Option<T>) {
    if flag.is_some() {
        *key = flag;
    }
}

/// The manager's URL: the global flag or variable goes over the file, the built-in default goes below it.
pub(super) fn overlay_manager(key: &mut Option<String>, manager: String) {
    if manager != MANAGER_DEFAULT || key.is_none() {
        *key = Some(manager);
    }
}

/// Runs a role until SIGINT or SIGTERM.
pub(super) fn run<F>(format: LogFormat, role: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    logging::start(format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { role(shutdown::on_signal()?).await })
}
