//! The real command line, driven as a person or a program would: a process per command, JSON back.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::netns::Namespace;

/// `persona-ctl`, run inside a namespace that reaches the manager.
#[derive(Debug, Clone)]
pub struct Ctl {
    /// The binary.
    pub program: String,
    /// Where it runs.
    pub namespace: Namespace,
    /// The manager's own socket, which knows root as an administrator.
    pub manager: String,
}

/// What a command that did not succeed said.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The exit code; 3 is "refused" (see persona-ctl's help).
    pub code: Option<i32>,
    /// Everything that it printed.
    pub text: String,
}

/// How many times longer everything may take where the processor is emulated (`PERSONA_TEST_EMULATED`).
const EMULATION_FACTOR: u32 = 16;

/// Whether this is a guest whose processor is emulated.
pub fn is_emulated() -> bool {
    std::env::var_os("PERSONA_TEST_EMULATED").is_some()
}

/// A limit on this machine: the given one, or more of it in a guest that is emulated.
pub fn patient(limit: Duration) -> Duration {
    if is_emulated() { limit * EMULATION_FACTOR } else { limit }
}

impl Ctl {
    /// Runs a command and reads its JSON answer.
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let text = self.text(&[arguments, &["--output", "json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("persona-ctl {} answered what is not as expected: {text}", arguments.join(" ")))
    }

    /// Runs a command that lists, whether it answers with a bare list or with a page.
    pub fn list<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<Vec<T>> {
        let answer: serde_json::Value = self.json(arguments)?;
        let items = if answer.is_array() { answer } else { answer["items"].clone() };
        serde_json::from_value(items).with_context(|| format!("persona-ctl {} answered no list", arguments.join(" ")))
    }

    /// Runs a command and returns what it printed.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("persona-ctl {} ended with {}: {}", arguments.join(" "), output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command that must be refused.
    pub fn refusal(&self, arguments: &[&str]) -> Result<Refusal> {
        let output = self.run(arguments)?;
        let both = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&both).trim().to_owned();
        if output.status.success() {
            bail!("persona-ctl {} was not refused: {text}", arguments.join(" "));
        }
        Ok(Refusal { code: output.status.code(), text })
    }

    /// Asks until the answer satisfies, and returns it with the time that it took.
    pub fn wait_for<T: DeserializeOwned>(
        &self,
        what: &str,
        arguments: &[&str],
        limit: Duration,
        satisfies: impl Fn(&T) -> bool,
    ) -> Result<(T, Duration)> {
        let (start, limit) = (Instant::now(), patient(limit));
        loop {
            let answer = self.json::<T>(arguments);
            match answer {
                Ok(answer) if satisfies(&answer) => return Ok((answer, start.elapsed())),
                Err(error) if start.elapsed() > limit => {
                    return Err(error.context(format!("waited {limit:?} for: {what}")));
                }
                _ if start.elapsed() > limit => bail!("waited {limit:?} for: {what}"),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.namespace.command(&self.program)?;
        command.env("PERSONA_MANAGER", &self.manager).arg("--manager").arg(&self.manager).args(arguments);
        command.output().with_context(|| format!("{} does not start", self.program))
    }
}
