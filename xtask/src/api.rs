//! `cargo xtask test --api`: a manager in plain HTTP on loopback, judged by schemathesis with all of its checks over the OpenAPI
//! document that the manager serves. schemathesis lies in a venv of the cache.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::binaries::Tests;
use crate::command::{output_of, show, workspace_root};
use crate::venv::Venv;

const SCHEMATHESIS: Venv = Venv { package: "schemathesis", version: "4.32.5" };

/// Cases that are made up for each route and phase.
const EXAMPLE_COUNT: u32 = 5;

/// The same cases each time.
const SEED: u32 = 1;

/// How long the manager may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// Where it is.
pub(crate) fn find() -> Option<String> {
    SCHEMATHESIS.find()
}

/// Makes the venv.
pub(crate) fn install() -> Result<()> {
    SCHEMATHESIS.install()
}

/// A manager that ends with this value.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Judges the API; a finding is a failure.
pub(crate) fn run() -> Result<()> {
    let persona_ctl = Tests::build()?.persona_ctl;
    let folder = workspace_root().join("target/xtask").join(format!("api-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let outcome = judge(&persona_ctl, &folder);
    std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    outcome
}

fn judge(persona_ctl: &Path, folder: &Path) -> Result<()> {
    let config = folder.join("manager.toml");
    let store = folder.join("manager.sqlite");
    // Nobody is held back: every case is to be answered by its handler.
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstore = {store:?}\ninsecure_http = true\nrate_limit_per_sec = 100000\npublish_geofeed = true\n"
    );
    std::fs::write(&config, text).with_context(|| format!("{} cannot be written", config.display()))?;
    let (_manager, base) = start(persona_ctl, &config)?;
    let socket = format!("unix:{}", folder.join("manager.state/admin.sock").display());
    let mut token = Command::new(persona_ctl);
    token.args(["--manager", &socket, "access", "create", "--name", "schemathesis", "--role", "admin", "--ttl", "1h"]);
    let token = output_of(token.args(["--output", "json"]))?;
    let token: serde_json::Value = serde_json::from_str(&token).context("the access token is no JSON")?;
    let token = token["token"].as_str().context("there is no access token")?;
    // The way to the manager stands behind the secret.
    let bearer: Vec<&str> = token.split('@').next().unwrap_or_default().split('.').take(2).collect();
    let program = SCHEMATHESIS.program("bin/schemathesis");
    let program = program.context("schemathesis is not set up: cargo xtask setup --for api")?;
    let mut command = Command::new(program);
    command.arg("--config-file").arg(workspace_root().join("xtask/src/api/schemathesis.toml"));
    command.args(["run", &format!("{base}/v1/openapi.json"), "--checks", "all", "--no-color"]);
    command.args(["--max-examples", &EXAMPLE_COUNT.to_string(), "--seed", &SEED.to_string()]);
    command.arg("--header").arg(format!("Authorization: Bearer {}", bearer.join(".")));
    command.current_dir(folder).stdin(Stdio::null());
    show("schemathesis", &mut command)
}

/// Starts the manager and waits until it says where it listens.
fn start(persona_ctl: &Path, config: &Path) -> Result<(Manager, String)> {
    let mut command = Command::new(persona_ctl);
    command.arg("manager").arg("--config").arg(config).args(["--log-format", "json"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut manager = Manager(child.context("the manager does not start")?);
    let (sender, lines) = std::sync::mpsc::channel();
    let log = workspace_root().join("target/xtask/api-manager.log");
    let mut log = std::fs::File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
    let output = manager.0.stderr.take().context("the manager's log is piped")?;
    // It is read to its end, or the manager would wait for a reader.
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // The log is for people; the reader may have gone.
            let _ = std::io::Write::write_all(&mut log, format!("{line}\n").as_bytes());
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + START_TIME_MAX;
    while let Some(rest) = deadline.checked_duration_since(Instant::now()) {
        let Ok(line) = lines.recv_timeout(rest) else { break };
        if let Some(address) = listening(&line) {
            return Ok((manager, format!("http://{address}")));
        }
    }
    bail!("the manager does not say where it listens; see target/xtask/api-manager.log")
}

/// The address in the line of the log that says that the manager listens.
fn listening(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(line["fields"]["manager.address"].as_str()?.to_owned())
}
