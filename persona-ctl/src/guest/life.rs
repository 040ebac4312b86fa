//! The agent inside a guest from start to stop: hears what is wanted, says once a second how everything stands.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use persona_core::guest::read_want;
use persona_core::wire::guest::{GUEST_PROTOCOL, GuestTell, GuestWant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::GuestConfig;
use super::port;
use super::work::{Standing, keep_packages, keep_settings};
use crate::guest_link::Lines;
use crate::signals::System;
use crate::supervisor::{Readiness, Supervisor};

/// What is measured is said so often.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// A port that cannot be used is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long the host may leave what is said to it unread.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// Runs until `stop` is cancelled. Everything stays as it is.
///
/// # Errors
/// None that it does not wait out.
pub async fn run(config: GuestConfig, stop: CancellationToken) -> anyhow::Result<()> {
    let (sender, wanted) = watch::channel(None);
    let standing = Standing::default();
    for work in [
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_settings(
            config.clone(),
            wanted.clone(),
            standing.clone(),
        ))),
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_packages(config.clone(), wanted, standing.clone()))),
    ] {
        // They end with `stop` only, and say so themselves if they do not.
        drop(work);
    }
    let mut talk = Talk { sender, standing, system: System::here(), session: 0, said: String::new() };
    let mut supervisor = Supervisor::from_environment(&Readiness::default());
    tracing::info!(port = %config.port.display(), "the agent inside this guest listens to its host");
    loop {
        let serve = async {
            let why = match port::open(&config.port) {
                Ok((reader, writer)) => talk.serve(reader, writer, &mut supervisor).await,
                Err(error) => format!("{}: {error}", config.port.display()),
            };
            supervisor.turn(format!("not connected: {why}"));
            talk.say(&why);
            tokio::time::sleep(RETRY_INTERVAL).await;
        };
        if stop.run_until_cancelled(serve).await.is_none() {
            break;
        }
    }
    tracing::info!("stopped; what was changed stays so");
    Ok(())
}

struct Talk {
    sender: watch::Sender<Option<Arc<GuestWant>>>,
    standing: Standing,
    system: System,
    /// Of whoever spoke last.
    session: u64,
    said: String,
}

impl Talk {
    /// Listens and tells until the port ends. Returns why.
    async fn serve(
        &mut self,
        reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        supervisor: &mut Supervisor,
    ) -> String {
        let (mut lines, mut interval) = (Lines::of(reader), tokio::time::interval(TELL_INTERVAL));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let standing = self.standing.clone();
        let mut values = self.system.turn();
        loop {
            tokio::select! {
                _ = interval.tick() => values = self.system.turn(),
                () = standing.changed() => {}
                line = lines.next() => match line {
                    Ok(Some(line)) => {
                        self.take(&line);
                        continue;
                    }
                    Ok(None) => return "nobody is connected on the host".to_owned(),
                    Err(error) => return error.to_string(),
                },
            }
            supervisor.turn(self.status());
            if self.session == 0 {
                continue;
            }
            let tell = self.tell(values.clone());
            match tokio::time::timeout(WRITE_TIME, write(&mut writer, &tell)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "the host reads nothing".to_owned(),
            }
        }
    }

    fn take(&mut self, line: &str) {
        match read_want(line) {
            Ok(want) => {
                self.session = want.session;
                self.say("");
                let is_other = |known: &Arc<GuestWant>| {
                    GuestWant { session: 0, ..(**known).clone() } != GuestWant { session: 0, ..want.clone() }
                };
                if self.sender.borrow().as_ref().is_none_or(is_other) {
                    tracing::info!(generation = %want.generation, "the host says what this guest shall be");
                    self.sender.send_replace(Some(Arc::new(want)));
                }
            }
            Err(error) => self.say(&error.to_string()),
        }
    }

    fn tell(&self, values: std::collections::BTreeMap<String, f64>) -> GuestTell {
        let parts = self.standing.parts();
        let ((one, security), (other, software)) = (parts.security, parts.software);
        GuestTell {
            protocol: GUEST_PROTOCOL,
            session: self.session,
            generation: one.min(other),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            security,
            software,
            values,
        }
    }

    fn status(&self) -> String {
        match self.sender.borrow().as_ref() {
            None => "connected; the host has not said yet what is wanted".to_owned(),
            Some(want) => format!("connected; generation {} is wanted", want.generation),
        }
    }

    /// The same trouble every second is one line in the log.
    fn say(&mut self, trouble: &str) {
        if self.said != trouble {
            if !trouble.is_empty() {
                tracing::warn!(trouble, "the host is not heard; what was changed stays so");
            }
            trouble.clone_into(&mut self.said);
        }
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), tell: &GuestTell) -> io::Result<()> {
    let mut line = serde_json::to_vec(tell)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.flush().await
}
