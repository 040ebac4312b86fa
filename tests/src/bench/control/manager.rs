//! The manager as a process of its own on loopback, with a store in a file, and whoever asks it as root.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use persona_core::ids::LeaseId;
use persona_core::wire::agent::Role;
use persona_core::wire::api::{Apply, NewJoinToken};
use persona_core::wire::credential::Credential;
use persona_ctl::client::{Access, ApiClient, Applying};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::bench::processor::{memory_mib, process_secs};
use crate::ledger::Ledger;
use crate::process::Running;

/// How long it may take until it answers.
const START_TIME: Duration = Duration::from_secs(60);

/// How long a join token is good for.
const TOKEN_MS: u64 = 3_600_000;

/// A manager.
pub(super) struct Manager {
    folder: TempDir,
    port: u16,
    ledger: Ledger,
    process: Running,
    runtime: Runtime,
    /// Root's own way in.
    pub(super) client: ApiClient,
}

impl Manager {
    /// Starts one that wants reports this often.
    pub(super) fn start(ledger: &Ledger, report_interval_ms: u32) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("persona-control-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let store = folder.path().join("manager.sqlite");
        let silent_after_ms = report_interval_ms * 5;
        // What a fleet sends that comes from one address is no flood.
        let config = format!(
            "listen = \"127.0.0.1:{port}\"\nstore = {store:?}\nreport_interval_ms = {report_interval_ms}\n\
             silent_after_ms = {silent_after_ms}\nrate_limit_per_sec = 1000000\n"
        );
        std::fs::write(folder.path().join("manager.toml"), config)?;
        let client = ApiClient::open(&Access {
            manager: format!("unix:{}", folder.path().join("manager.state/admin.sock").display()),
            override_reach: Some("a benchmark".to_owned()),
            ..Access::default()
        })?;
        let process = spawn(ledger, &folder)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut manager = Self { folder, port, ledger: ledger.clone(), process, runtime, client };
        manager.wait()?;
        Ok(manager)
    }

    /// Ends it as a crash would and starts it again on the same store.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(&self.ledger, &self.folder)?;
        Ok(())
    }

    /// Waits until it answers.
    pub(super) fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = self.ask(self.client.status()) {
            self.process.check()?;
            if start.elapsed() > START_TIME {
                return Err(error.context("the manager does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the lease of this number is stored: numbers are given from 1 on, and stored in that order.
    pub(super) fn wait_for_lease(&self, number: u64) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = self.ask(self.client.lease(LeaseId(number))) {
            ensure!(start.elapsed() < START_TIME, "lease {number} is not there: {error:#}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Runs a question to its answer.
    pub(super) fn ask<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T> {
        Ok(self.runtime.block_on(question)?)
    }

    /// Applies documents, whatever is there.
    pub(super) fn apply(&self, documents: Vec<serde_json::Value>) -> Result<()> {
        let how = Applying { force_conflicts: true, ..Applying::default() };
        self.ask(self.client.apply(&Apply { documents }, how)).map(drop)
    }

    /// A join token's bearer, for so many.
    pub(super) fn token(&self, role: Role, uses: u32) -> Result<String> {
        let new = NewJoinToken { role, name: None, uses, ttl_ms: TOKEN_MS, labels: Default::default() };
        let secret = self.ask(self.client.create_join_token(&new))?;
        Ok(secret.token.parse::<Credential>()?.bearer())
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The file of its roots.
    pub(super) fn roots(&self) -> PathBuf {
        self.folder.path().join("manager.state/roots.pem")
    }

    /// The most memory that it ever had, MiB.
    pub(super) fn memory_mib(&self) -> Result<f64> {
        memory_mib(self.process.pid().context("the manager runs")?, "VmHWM")
    }

    /// The processor time that it has used, seconds.
    pub(super) fn processor_secs(&self) -> Result<f64> {
        process_secs(self.process.pid().context("the manager runs")?)
    }
}

fn spawn(ledger: &Ledger, folder: &TempDir) -> Result<Running> {
    let program = std::env::var("PERSONA_CTL").context("PERSONA_CTL is not set: use `cargo xtask bench control`")?;
    let mut command = Command::new(program);
    command.arg("manager").arg("--config").arg(folder.path().join("manager.toml"));
    Running::start(ledger, "manager", &folder.path().join("manager.log"), command)
}
