//! `persona-ctl manager`: the central server.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use persona_manager::telemetry::Traces;
use persona_manager::{Config, StoreLocation, Turn};
use tokio::sync::watch;

use super::Output;
use super::config::Configured;
use super::manager_store::StoreCommand;
use super::role::overlay;
use crate::config::Place;
use crate::logging::LogFormat;
use crate::supervisor::{Readiness, Supervisor};
use crate::{allocator, config, logging, open_files, shutdown};

/// Files that the manager may have open beside connections.
const OWN_FILE_COUNT: u64 = 256;

/// Arguments of `manager`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Flags and variables go over the file. Without a file, the defaults hold.

Examples:
  persona-ctl manager --store ./manager.sqlite
  persona-ctl manager --config /etc/persona/manager.toml --listen 10.0.0.1:7600
  persona-ctl manager backup --to /var/backups/persona/monday.sqlite
  persona-ctl manager restore --from /var/backups/persona/monday.sqlite"
)]
pub(super) struct ManagerArgs {
    /// Care for the store instead.
    #[command(subcommand)]
    command: Option<StoreCommand>,
    #[command(flatten)]
    flags: ManagerFlags,
}

/// What the manager's process is told.
#[derive(Debug, Args)]
pub(super) struct ManagerFlags {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE", env = "PERSONA_MANAGER_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS:PORT", env = "PERSONA_MANAGER_LISTEN")]
    listen: Option<SocketAddr>,
    /// The store: a SQLite file, or a postgres:// URL.
    #[arg(long, value_name = "FILE|URL", env = "PERSONA_MANAGER_STORE")]
    store: Option<StoreLocation>,
    /// Directory of the certificate authority's keys and the administrators' socket; by default beside the store.
    #[arg(long, value_name = "DIRECTORY", env = "PERSONA_MANAGER_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// URL under which nodes, edges and people reach the managers, once for each; tokens carry them.
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Name or address for the manager's certificate, once for each, for clients that check it such as curl.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Serve the network in plain HTTP: nodes and edges cannot join, and everybody on the way can read along.
    #[arg(long)]
    insecure_http: bool,
    /// Listen on a public address in plain HTTP.
    #[arg(long)]
    allow_public: bool,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

impl ManagerArgs {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        if let Some(command) = self.command {
            return command.run(output);
        }
        allocator::serve_many();
        let format = self.flags.log_format;
        let config = self.flags.resolve()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let inside = runtime.enter();
        let traces = config.telemetry.otlp.as_deref().map(|otlp| Traces::start(otlp, &config.listen.to_string()));
        let traces = traces.transpose().context("traces cannot be sent")?;
        drop(inside);
        logging::start_with(format, traces.as_ref());
        let outcome = runtime.block_on(serve(config));
        if let Some(traces) = traces {
            traces.finish();
        }
        outcome
    }
}

impl ManagerFlags {
    /// The file, with flags and variables over it.
    fn resolve(self) -> anyhow::Result<Config> {
        let from_file = self.config.as_deref().map(config::load::<Config>).transpose()?;
        let mut config = from_file.unwrap_or_default();
        self.put_over(None, &mut config)?;
        Ok(config)
    }
}

impl Configured for ManagerFlags {
    type File = Config;

    fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn put_over(self, _: Option<String>, config: &mut Config) -> anyhow::Result<()> {
        config.listen = self.listen.unwrap_or(config.listen);
        if let Some(location) = self.store {
            config.store.location = location;
        }
        overlay(&mut config.state_dir, self.state_dir);
        if !self.url.is_empty() {
            config.urls = self.url;
        }
        if !self.name.is_empty() {
            config.names = self.name;
        }
        config.insecure_http |= self.insecure_http;
        config.allow_public |= self.allow_public;
        Ok(())
    }

    fn mistakes(config: &Config) -> Vec<(Place, String)> {
        let mistakes = config.mistakes(config.listen);
        mistakes.into_iter().map(|error| (Place::Key(error.key()), error.to_string())).collect()
    }

    /// Passwords of a store's URL are not among what is printed.
    fn in_force(config: Config) -> anyhow::Result<Config> {
        Ok(Config { state_dir: Some(config.state_dir()), ..config })
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    config.check(config.listen)?;
    let config = within_open_files(config, open_files::raise_limit());
    let listen = config.listen;
    let listener = persona_manager::listen(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let stop = shutdown::on_signal().context("signals cannot be caught")?;
    let manager = persona_manager::start(config, listener, stop).await?;
    let watching = tokio::spawn(watch_over(manager.turns(), manager.address()));
    manager.stopped().await;
    watching.await.context("whoever tells the service manager failed")
}

/// No more connections than files may be open, with some for the store and what the manager asks others.
fn within_open_files(config: Config, limit: Option<u64>) -> Config {
    let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(OWN_FILE_COUNT.min(limit / 2)));
    let room = u32::try_from(room).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
    let connections_max = config.connections_max.min(room);
    tracing::info!(open_files.limit = limit, connections.max = connections_max, "as many connections are served");
    Config { connections_max, ..config }
}

/// Tells the service manager that the manager's own loop turns.
async fn watch_over(mut turns: watch::Receiver<Turn>, address: SocketAddr) {
    let mut supervisor = Supervisor::from_environment(&Readiness::default());
    while turns.changed().await.is_ok() {
        let does =
            if turns.borrow_and_update().leads { "makes changes" } else { "answers, another manager makes changes" };
        supervisor.turn(format!("listens on {address}, {does}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(config: Option<PathBuf>, listen: Option<&str>) -> ManagerFlags {
        let listen = listen.map(|address| address.parse().unwrap());
        ManagerFlags {
            config,
            listen,
            store: None,
            state_dir: None,
            url: Vec::new(),
            name: Vec::new(),
            insecure_http: false,
            allow_public: false,
            log_format: LogFormat::Text,
        }
    }

    #[test]
    fn connections_fit_into_the_files_that_may_be_open() {
        for (wanted, limit, expected) in [
            (32_768, None, 32_768),
            (32_768, Some(65_536), 32_768),
            (32_768, Some(20_000), 19_744),
            (32_768, Some(100), 50),
            (100, Some(1_024), 100),
        ] {
            let config = Config { connections_max: NonZeroU32::new(wanted).unwrap(), ..Config::default() };
            assert_eq!(within_open_files(config, limit).connections_max.get(), expected, "{wanted} of {limit:?}");
        }
    }

    #[test]
    fn flags_go_over_the_file_and_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("manager.toml");
        std::fs::write(&file, "listen = '10.0.0.1:1'\nstore = '/s'\n").unwrap();
        let config = args(Some(file.clone()), Some("10.0.0.2:2")).resolve().unwrap();
        assert_eq!((config.listen.to_string().as_str(), config.store), ("10.0.0.2:2", PathBuf::from("/s").into()));
        assert_eq!(args(None, None).resolve().unwrap(), Config::default());
        std::fs::write(&file, "lisen = '10.0.0.1:1'\n").unwrap();
        let error = args(Some(file), None).resolve().unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("lisen") && error.contains("listen"), "{error}");
    }
}
