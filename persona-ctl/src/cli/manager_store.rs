//! `persona-ctl manager backup|restore|migrate-store|seal-key`: care for the store, on the manager's own host.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use persona_manager::{
    Backup, Config, Migrated, Restored, SealingKeys, StoreConfig, StoreLocation, backup, migrate, restore,
};
use serde::Serialize;

use super::Output;
use super::print::bytes;
use crate::config;

/// Care for the store.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    Backup(BackupArgs),
    Restore(RestoreArgs),
    MigrateStore(MigrateArgs),
    #[command(subcommand)]
    SealKey(SealKeyCommand),
}

impl StoreCommand {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Backup(args) => args.run(output),
            Self::Restore(args) => args.run(output),
            Self::MigrateStore(args) => args.run(output),
            Self::SealKey(command) => command.run(output),
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
/// edges notice nothing. With `ca.seal_key_file` in the configuration the CA's key goes along, sealed. Then set `store` to the URL and start the manager. The file stays as it is: do not start on it again.
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
        let migrated = migrate(&self.store.config()?, &self.to.into())?;
        output.show(&migrated, |Migrated { revision, record_count, event_count, sealed_key_count }| {
            let sealed = match sealed_key_count {
                0 => String::new(),
                count => format!(", {count} keys of root certificates sealed"),
            };
            format!(
                "{place} holds revision {revision}: {record_count} records, {event_count} events{sealed}\nset store = \"{place}\" in the manager's file (with its password, if it has one)"
            )
        })
    }
}

/// The file of keys that seal the certificate authority's keys in the store (`ca.seal_key_file`).
///
/// Every manager on a database has the same file, 0600, and needs no other key then. The first key in it seals, each opens;
/// managers look at it every few seconds.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Another key, while managers run:
  persona-ctl manager seal-key rotate /etc/persona/seal.key    # then copy the file to every other manager
  persona-ctl authority show                                   # once SEALED WITH is the new key everywhere:
  persona-ctl manager seal-key forget /etc/persona/seal.key    # and copy it again")]
pub(super) enum SealKeyCommand {
    /// Make the file, with a new key.
    Make(SealKeyFile),
    /// Put a new key before those that are there: it seals from now on, the others open.
    Rotate(SealKeyFile),
    /// Take all keys out but the one that seals.
    Forget(SealKeyFile),
    /// Say which keys are in it.
    Show(SealKeyFile),
}

/// A file of sealing keys.
#[derive(Debug, Args)]
pub(super) struct SealKeyFile {
    /// The file.
    file: PathBuf,
}

/// What names the keys of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SealingKeysView {
    file: PathBuf,
    /// The one that seals first.
    keys: Vec<String>,
}

impl SealKeyCommand {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let (keys, file) = match self {
            Self::Make(SealKeyFile { file }) => (SealingKeys::make(&file)?, file),
            Self::Rotate(SealKeyFile { file }) => (SealingKeys::rotate(&file)?, file),
            Self::Forget(SealKeyFile { file }) => (SealingKeys::forget(&file)?, file),
            Self::Show(SealKeyFile { file }) => (SealingKeys::read(&file)?, file),
        };
        output.show(&SealingKeysView { file, keys: keys.ids() }, |view| {
            let (first, others) = view.keys.split_first().expect("a file without keys is refused");
            let opening = if others.is_empty() { String::new() } else { format!("; {} open too", others.join(", ")) };
            format!("{}: {first} seals{opening}", view.file.display())
        })
    }
}
