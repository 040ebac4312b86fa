//! The stages of a longer task, with their times, and the table that closes it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Stages that have run.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<(String, Duration, bool)>,
}

impl Stages {
    /// Runs one stage and notes its time; a failure is printed and kept for [`Stages::finish`].
    pub(crate) fn run(&mut self, name: &str, stage: impl FnOnce() -> Result<()>) -> bool {
        let done = timed(name, stage);
        let is_ok = done.2;
        self.done.push(done);
        is_ok
    }

    /// Runs two at once, as [`Self::run`] does, and goes on when both are done.
    pub(crate) fn run_both(
        &mut self,
        (first, run_first): (&str, impl FnOnce() -> Result<()>),
        (second, run_second): (&str, impl FnOnce() -> Result<()> + Send),
    ) {
        let both = thread::scope(|scope| {
            let second = scope.spawn(|| timed(second, run_second));
            [timed(first, run_first), second.join().expect("a stage's thread does not panic")]
        });
        self.done.extend(both);
    }

    /// Prints the table; fails if any stage failed.
    pub(crate) fn finish(self) -> Result<()> {
        let width = self.done.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
        println!();
        for (name, time, ok) in &self.done {
            println!("{name:width$}  {:>7.1} s  {}", time.as_secs_f64(), if *ok { "ok" } else { "FAILED" });
        }
        let failed: Vec<_> = self.done.iter().filter(|(.., ok)| !ok).map(|(name, ..)| name.as_str()).collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

fn timed(name: &str, stage: impl FnOnce() -> Result<()>) -> (String, Duration, bool) {
    println!("== {name}");
    let start = Instant::now();
    let outcome = stage();
    if let Err(error) = &outcome {
        eprintln!("error: {name}: {error:#}");
    }
    (name.to_owned(), start.elapsed(), outcome.is_ok())
}
