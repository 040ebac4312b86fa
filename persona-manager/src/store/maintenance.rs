//! Backups of a store while managers run on it, and going back to one while none does. A backup is a SQLite store.
//!
//! A restored store is another incarnation of it: what was given since the backup is learnt from nodes and edges
//! before anything is given again (`tasks::recovery`). A file that was there is kept beside it.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::sqlite::{SqliteBackend, check_integrity, lock};
use super::{Backend, Draft, Snapshot, StoreConfig, StoreError, StoreLocation, transfer};
use crate::clock::now_ms;
use crate::tasks::recovery;

/// Names that are tried for the file that was there before.
const ASIDE_COUNT_MAX: u32 = 1_000;

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The store incarnation and revision that it holds, such as `1.4711`.
    pub revision: String,
}

/// A store that was gone back with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The store incarnation and revision of the backup.
    pub from_revision: String,
    /// Those of the store now.
    pub revision: String,
    /// Where the store is that was there before.
    pub kept: Option<PathBuf>,
    /// Nodes and edges that are asked what they hold before anything is leased again.
    pub awaited: Vec<String>,
}

/// Copies a store, of which a manager may be writing meanwhile, to a new file that is whole and checked.
pub fn backup(store: &StoreConfig, to: &Path) -> Result<Backup, StoreError> {
    let partial = with_suffix(to, ".partial");
    let file = |source| StoreError::Open { path: to.display().to_string(), source };
    if to.exists() {
        return Err(StoreError::Exists { path: to.display().to_string() });
    }
    make_private(&partial).map_err(file)?;
    let outcome = match &store.location {
        StoreLocation::File(store) => copy(store, &partial).and_then(|()| look(&partial)),
        StoreLocation::Postgres(_) => transfer::export(store, &partial),
    };
    let snapshot = outcome.inspect_err(|_| _ = std::fs::remove_file(&partial))?; // half a backup helps nobody
    // Not by renaming: another backup of the same name may have been made meanwhile.
    let placed = std::fs::hard_link(&partial, to).and_then(|()| std::fs::remove_file(&partial));
    placed.and_then(|()| sync_folder(to)).map_err(file)?;
    let bytes = std::fs::metadata(to).map_err(file)?.len();
    Ok(Backup { file: to.to_owned(), bytes, revision: snapshot.generation().to_string() })
}

/// Puts a backup in the place of a store that no manager has open.
pub fn restore(store: &StoreConfig, from: &Path) -> Result<Restored, StoreError> {
    let StoreLocation::File(store) = &store.location else { return restore_database(store, from) };
    let file = |source| StoreError::Open { path: store.display().to_string(), source };
    let _lock = lock(store)?;
    let fresh = with_suffix(store, ".restoring");
    make_private(&fresh).map_err(file)?;
    copy(from, &fresh)?;
    let before = settle(store);
    let (old, new) = go_back(&fresh, from, before)?;
    let kept = set_aside(store).map_err(file)?;
    std::fs::rename(&fresh, store).and_then(|()| sync_folder(store)).map_err(file)?;
    Ok(restored(&old, &new, kept))
}

/// As [`restore`], of a database: what is in it gives way in one transaction.
fn restore_database(store: &StoreConfig, from: &Path) -> Result<Restored, StoreError> {
    let folder = std::env::temp_dir().join(format!("persona-restore-{}", crate::auth::random_hex::<8>()));
    let private = std::fs::DirBuilder::new().mode(0o700).create(&folder);
    private.map_err(|source| StoreError::Open { path: folder.display().to_string(), source })?;
    let fresh = folder.join("backup.sqlite");
    let outcome = copy(from, &fresh)
        .and_then(|()| SqliteBackend::open_alone(&fresh)?.close())
        .and_then(|()| transfer::go_back(store, &fresh));
    _ = std::fs::remove_dir_all(&folder); // a copy that only its owner reads
    let (old, new) = outcome?;
    Ok(restored(&old, &new, None))
}

fn restored(old: &Snapshot, new: &Snapshot, kept: Option<PathBuf>) -> Restored {
    Restored {
        from_revision: old.generation().to_string(),
        revision: new.generation().to_string(),
        kept,
        awaited: recovery::awaited(new).into_iter().map(ToString::to_string).collect(),
    }
}

/// Raises the incarnation of a copy above its own and that of the store which it is going to replace.
fn go_back(fresh: &Path, from: &Path, before: Option<u32>) -> Result<(Snapshot, Snapshot), StoreError> {
    let mut backend = SqliteBackend::open_alone(fresh)?;
    let old = backend.load()?;
    let mut draft = Draft::new(&old, now_ms());
    let reason = format!("the store was restored from {}", from.display());
    recovery::begin(&mut draft, before.unwrap_or(0), &reason);
    let (new, writes, events) = draft.finish();
    backend.commit(new.revision, &writes, &events)?;
    backend.close()?;
    Ok((old, new))
}

/// Copies a database, whatever others do with it meanwhile, into one file without a log beside it.
fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    if !from.is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(StoreError::Open { path: from.display().to_string(), source });
    }
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    source.busy_timeout(std::time::Duration::from_secs(5))?;
    let corrupt = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { path: from.display().to_string(), finding: error.to_string() }
        }
        _ => error.into(),
    };
    // In one read transaction: a copy by pages begins anew whenever somebody writes, and may never end.
    source.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map_err(corrupt)?;
    check_integrity(&Connection::open(to)?, from)?;
    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(|source| StoreError::Open { path: to.display().to_string(), source })
}

/// What a store holds, without changing it.
fn look(path: &Path) -> Result<Snapshot, StoreError> {
    SqliteBackend::open_reader(path)?.load()
}

/// Writes a store's log into it, so that it is one file. Returns its incarnation; None: it cannot be read.
fn settle(store: &Path) -> Option<u32> {
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).ok()?;
    let query = "SELECT value FROM meta WHERE name = 'incarnation'";
    connection.query_row(query, [], |row| row.get::<_, u32>(0)).ok()
}

/// Gives the store that is there a second name, and takes its log out of the way: it must not be read into another file.
fn set_aside(store: &Path) -> std::io::Result<Option<PathBuf>> {
    if !store.exists() {
        return Ok(None);
    }
    let names = (1..=ASIDE_COUNT_MAX).map(|number| with_suffix(store, &format!(".before-restore-{number}")));
    let aside = names.into_iter().find(|name| !name.exists());
    let aside = aside.ok_or_else(|| std::io::Error::other("too many stores of earlier restores lie beside it"))?;
    std::fs::hard_link(store, &aside)?;
    for log in ["-wal", "-shm"] {
        match std::fs::rename(with_suffix(store, log), with_suffix(&aside, log)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(Some(aside))
}

fn make_private(path: &Path) -> std::io::Result<()> {
    _ = std::fs::remove_file(path); // left over by one that was interrupted; if it cannot go, creating says why
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
