//! `persona-ctl manager backup|restore|migrate-store`: care for the store, on the manager's own host.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use persona_manager::{Backup, Config, Migrated, Restored, StoreConfig, StoreLocation, backup, migrate, restore};

use super::Output;
use super::print::bytes;
use crate::config;

/// Care for the store.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    Backup(BackupArgs),
    Restore(RestoreArgs),
    MigrateStore(MigrateArgs),
}

impl StoreCommand {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Backup(args) => args.run(output),
            Self::Restore(args) => args.run(output),
            Self::MigrateStore(args) => args.run(output),
        }
    }
}

/// Which store.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    /// The manager's configuration, a TOML file, for its `store` key.
    #[arg(long, value_name = "FILE", env = "PERSONA_MANAGER_CONFIG")]
    config: Option<PathBuf>,
    /// The store: a SQLite file, or a postgres:// URL.
    #[arg(long, value_name = "FILE|URL", env = "PERSONA_MANAGER_STORE")]
    store: Option<StoreLocation>,
}

impl StoreArgs {
    /// The flag or variable, else what the file says, else the default.
    pub(super) fn resolve(self) -> Result<StoreConfig, config::ConfigError> {
        Ok(self.config()?.store)
    }

    /// Where that store's manager keeps its keys and roots.
    pub(super) fn state_dir(&self) -> Result<PathBuf, config::ConfigError> {
        Ok(self.config()?.state_dir())
    }

    fn config(&self) -> Result<Config, config::ConfigError> {
        let mut config = self.config.as_deref().map(config::load::<Config>).transpose()?.unwrap_or_default();
        if let Some(store) = &self.store {
            config.store.location = store.clone();
        }
        Ok(config)
    }
}

/// Copy the store to a new file, whether a manager runs on it or not.
///
/// The copy is whole, checked, readable by its owner only, and as of one moment. Keep it elsewhere.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The new file.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

impl BackupArgs {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let made = backup(&self.store.resolve()?, &self.to)?;
        output.show(&made, |Backup { file, bytes: size, revision }| {
            format!("{} holds revision {revision}, {}", file.display(), bytes(*size))
        })
    }
}

/// Go back to a backup. The manager must be stopped; start it afterwards.
///
/// The store becomes a new incarnation: nothing runs backwards. What nodes and edges hold is theirs still, whatever the
/// backup remembers, and no address is leased before they have said what they hold. The store that was there is kept.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

impl RestoreArgs {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let restored = restore(&self.store.resolve()?, &self.from)?;
        output.show(&restored, told)
    }
}

fn told(restored: &Restored) -> String {
    let Restored { from_revision, revision, kept, awaited } = restored;
    let mut lines = vec![format!("went back to revision {from_revision}, which is {revision} now")];
    lines.extend(kept.as_ref().map(|kept| format!("the store that was there is {}", kept.display())));
    lines.push(match awaited.len() {
        0 => "no node or edge is registered in it".to_owned(),
        count => format!(
            "once the manager runs, {count} nodes and edges say what they hold before anything new is leased; delete those that are gone for good (persona-ctl node|edge delete --force)"
        ),
    });
    lines.join("\n")
}

/// Carry a SQLite store to an empty PostgreSQL database. The manager must be stopped.
///
/// Everything goes over in one transaction and is compared afterwards; revisions and generations go on, and nodes and
/// edges notice nothing. Then set `store` to the URL and start the manager. The file stays as it is: do not start on it again.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The database, empty: postgres://USER@HOST/DATABASE.
    #[arg(long, value_name = "URL")]
    to: StoreLocation,
}

impl MigrateArgs {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let place = self.to.to_string();
        let migrated = migrate(&self.store.resolve()?, &self.to.into())?;
        output.show(&migrated, |Migrated { revision, record_count, event_count }| {
            format!(
                "{place} holds revision {revision}: {record_count} records, {event_count} events\nset store = \"{place}\" in the manager's file (with its password, if it has one)"
            )
        })
    }
}
