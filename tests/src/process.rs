//! Long-running processes: started in a namespace, logging to a file, ended by their id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ctl::patient;
use crate::ledger::{Ledger, Undo};
use crate::sys::{self, Signal};

/// How long a process may take to stop when asked.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Lines of a log that are shown with an error.
const LOG_TAIL_LINES: usize = 20;

/// A running process. Dropping it kills it, unless the ledger has been emptied to keep the world.
#[derive(Debug)]
pub struct Running {
    /// What it is, for people.
    pub name: String,
    /// Where its output goes.
    pub log: PathBuf,
    child: Option<Child>,
    ledger: Ledger,
}

impl Running {
    /// Starts it with its output appended to `log`.
    pub fn start(ledger: &Ledger, name: &str, log: &Path, mut command: Command) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("log {} cannot be written", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{name} does not start: {command:?}"))?;
        ledger.note(Undo::Kill(child.id()));
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child: Some(child), ledger: ledger.clone() })
    }

    /// Fails if it has ended by itself, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { bail!("{} is not running", self.name) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.forget();
                bail!("{} ended with {status}; the end of {}:\n{}", self.name, self.log.display(), self.log_tail())
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Freezes it, or lets it run on.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} is not running", self.name))?;
        sys::kill(pid, signal).with_context(|| format!("{} cannot be signalled", self.name))
    }

    /// Ends it as a crash would (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child {
            child.kill().with_context(|| format!("{} cannot be killed", self.name))?;
            child.wait()?;
            self.forget();
        }
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits for it.
    pub fn stop(&mut self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        sys::kill(pid, Signal::Terminate).with_context(|| format!("{} cannot be asked to stop", self.name))?;
        match self.wait(STOP_TIME)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} stopped with {status}; the end of its log:\n{}", self.name, self.log_tail()),
            None => {
                self.kill()?;
                bail!("{} did not stop within {STOP_TIME:?} and was killed", self.name)
            }
        }
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patient(limit);
        while let Some(child) = &mut self.child {
            if let Some(status) = child.try_wait()? {
                self.forget();
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }

    /// Lets it live on after this value is gone.
    pub fn detach(&mut self) {
        self.child = None;
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    fn forget(&mut self) {
        if let Some(child) = self.child.take() {
            self.ledger.strike(&Undo::Kill(child.id()));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill().ok(); // the ledger tries again and reports
    }
}
