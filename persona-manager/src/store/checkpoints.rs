//! Carries SQLite's log over into the store's file, in a thread of its own: no commit waits for it.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::StoreError;

/// Rows that are written between two looks at the log; about as many pages as SQLite itself lets the log have.
const ROWS_PER_LOOK: usize = 512;

/// A log of so many pages (64 MiB) is ended even if writers have to wait for that: they write faster than it is carried over.
const LOG_PAGES_MAX: i64 = 16_384;

/// The way to the thread; it ends with this.
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    row_count: usize,
}

impl Checkpoints {
    /// Starts the thread, for a file whose writer leaves its log alone.
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "synchronous", "full")?;
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(&connection, &woken))
            .map_err(StoreError::Thread)?;
        Ok(Self { wake: Some(wake), thread: Some(thread), row_count: 0 })
    }

    /// Notes that rows were written.
    pub(super) fn note(&mut self, row_count: usize) {
        self.row_count += row_count;
        if self.row_count >= ROWS_PER_LOOK {
            self.row_count = 0;
            // It is full where a look is due already.
            self.wake.as_ref().into_iter().for_each(|wake| _ = wake.try_send(()));
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join(); // it has told why it panicked
        }
    }
}

fn run(connection: &Connection, woken: &Receiver<()>) {
    let mut said = String::new();
    while woken.recv().is_ok() {
        let carried = carry_over(connection, "PASSIVE").and_then(|log_pages| match log_pages > LOG_PAGES_MAX {
            true => carry_over(connection, "RESTART"),
            false => Ok(log_pages),
        });
        match carried {
            Ok(_) => said.clear(),
            Err(error) if error.to_string() == said => {}
            Err(error) => {
                // What is in the log is durable; it grows until this works again.
                tracing::warn!(error = &error as &dyn std::error::Error, "the store's log cannot be carried over");
                said = error.to_string();
            }
        }
    }
}

/// Returns how many pages the log has.
fn carry_over(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_carried_over_while_its_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        connection.execute_batch("CREATE TABLE rows (body TEXT)").unwrap();
        let mut checkpoints = Checkpoints::start(&path).unwrap();
        let insert = |count: usize| {
            let text = "x".repeat(2_000);
            (0..count).for_each(|_| _ = connection.execute("INSERT INTO rows VALUES (?1)", [&text]).unwrap());
        };
        insert(ROWS_PER_LOOK);
        let before = std::fs::metadata(&path).unwrap().len();
        checkpoints.note(ROWS_PER_LOOK - 1);
        checkpoints.note(1);
        insert(10);
        drop(checkpoints); // once it has done what it was asked for
        let after = std::fs::metadata(&path).unwrap().len();
        assert!(before < 100_000 && after > 500_000, "{before} bytes became {after}");
        let count: i64 = connection.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).unwrap();
        assert_eq!(count, ROWS_PER_LOOK as i64 + 10);
    }
}
