//! Debian's libfaketime: processes that are started with it read a clock that is off by what a file says. The clock that never
//! jumps is left alone, as the kernel leaves it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::programs::cache_dir;

/// How often a process reads the file, seconds: it may take so long until it believes another time.
const CACHE_SECS: u32 = 1;

/// A clock that a test sets.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// One that is right, whose file lies in this folder.
    pub fn new(folder: &Path) -> Result<Self> {
        let path = format!("usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        let found = [PathBuf::from("/"), cache_dir()?.join("faketime")].map(|root| root.join(&path));
        let library = found.into_iter().find(|path| path.is_file());
        let library = library.context("libfaketime is missing: run `cargo xtask setup`")?;
        let clock = Self { library, file: folder.join("clock") };
        clock.set("+0")?;
        Ok(clock)
    }

    /// Sets it off by this, such as `+2d` or `-3h`.
    pub fn set(&self, off_by: &str) -> Result<()> {
        std::fs::write(&self.file, off_by).with_context(|| format!("{} cannot be written", self.file.display()))
    }

    /// What a process must find in its environment to read this clock.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", CACHE_SECS.to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }
}
