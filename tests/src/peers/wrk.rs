//! wrk as a peer: HTTP requests over many connections, and what became of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;

/// Whether a connection carries one request or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// Many.
    Kept,
    /// One.
    Fresh,
}

/// A run of wrk.
#[derive(Debug)]
pub struct Wrk {
    running: Running,
    duration: Duration,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Requests that were answered.
    pub request_count: u64,
    /// Connections that failed, broken reads and writes, and time-outs together.
    pub error_count: u64,
    /// Answers other than 2xx and 3xx.
    pub refusal_count: u64,
}

impl Wrk {
    /// Starts one that asks for `url` for `duration` over so many connections.
    pub fn start(
        ledger: &Ledger,
        inside: &Namespace,
        folder: &Path,
        name: &str,
        url: &str,
        (connections, count): (Connections, u32),
        duration: Duration,
    ) -> Result<Self> {
        let mut command = Program::find("wrk", "usr/bin/wrk")?.command(inside)?;
        command
            .arg("-t1")
            .arg(format!("-c{count}"))
            .arg(format!("-d{}s", duration.as_secs()))
            .args(["--timeout", "5s"]);
        if connections == Connections::Fresh {
            command.args(["-H", "Connection: close"]);
        }
        let running = Running::start(ledger, name, &folder.join(format!("{name}.log")), command_with(command, url))?;
        Ok(Self { running, duration })
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<Summary> {
        match self.running.wait(self.duration + Duration::from_secs(20))? {
            Some(status) if status.success() => {}
            Some(status) => bail!("{} ended with {status}: {}", self.running.name, self.running.log_tail()),
            None => bail!("{} did not end", self.running.name),
        }
        read(&std::fs::read_to_string(&self.running.log)?)
    }
}

fn command_with(mut command: std::process::Command, url: &str) -> std::process::Command {
    command.arg(url);
    command
}

/// What wrk printed.
fn read(text: &str) -> Result<Summary> {
    let told = |line: &&str| line.contains(" requests in ");
    let line = text.lines().find(told).with_context(|| format!("wrk told no requests: {text}"))?;
    let request_count = line.split_whitespace().next().and_then(|word| word.parse().ok());
    let numbers = |line: &str| -> u64 {
        let words = line.split(|it: char| !it.is_ascii_digit());
        words.filter_map(|word| word.parse::<u64>().ok()).sum()
    };
    let count = |start: &str| text.lines().filter(|line| line.trim().starts_with(start)).map(numbers).sum();
    Ok(Summary {
        request_count: request_count.with_context(|| format!("wrk counted no requests: {line}"))?,
        error_count: count("Socket errors:"),
        refusal_count: text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses:"))
            .map(numbers)
            .sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_refusals_are_told_apart() {
        let whole = "  1 threads and 8 connections\n  90742 requests in 5.00s, 13.50MB read\n\
            \u{20} Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 17\n";
        let expected = Summary { request_count: 90_742, error_count: 4_321, refusal_count: 17 };
        assert_eq!(read(whole).unwrap(), expected);
        let clean = read("  12 requests in 5.00s, 1.00KB read\nRequests/sec: 2.4\n").unwrap();
        assert_eq!(clean, Summary { request_count: 12, error_count: 0, refusal_count: 0 });
        assert!(read("unable to connect").is_err());
    }
}
