//! etcd as a peer: how soon a watcher hears of a put, and all watchers of one, over its JSON gateway on loopback.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::bench::samples::Samples;
use crate::ledger::Ledger;
use crate::peers::programs::Program;
use crate::process::Running;
use crate::sys::monotonic_time;
use persona_ctl::trust::plain_http;

/// How long it may take to answer, and an event to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The key that all watch.
const SHARED: &str = "shared";

/// etcd with watchers, each of a key of its own and of one that all have.
pub(super) struct Etcd {
    runtime: Runtime,
    http: Client,
    url: String,
    seen: Arc<Seen>,
    process: Running,
    _folder: TempDir,
}

/// What watchers saw.
#[derive(Default)]
struct Seen {
    /// When an event last came, nanoseconds of the monotonic clock.
    at_ns: AtomicU64,
    /// How many came.
    count: AtomicU64,
    ready: AtomicU64,
}

impl Etcd {
    /// Starts one with its store in a file, and so many watchers.
    pub(super) fn start(ledger: &Ledger, watcher_count: u32) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("persona-etcd-").tempdir()?;
        let [client, peer] = [free_port()?, free_port()?].map(|port| format!("http://127.0.0.1:{port}"));
        let program = Program::find("etcd", "usr/bin/etcd")?;
        let mut command = Command::new(&program.path);
        program.set_environment(&mut command);
        command.arg("--data-dir").arg(folder.path().join("data")).args(["--name", "bench", "--log-level", "error"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("bench={peer}")]);
        let process = Running::start(ledger, "etcd", &folder.path().join("etcd.log"), command)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (http, seen) = (plain_http().build()?, Arc::new(Seen::default()));
        let mut etcd = Self { runtime, http, url: client, seen, process, _folder: folder };
        etcd.wait()?;
        (0..watcher_count).for_each(|number| etcd.watch(&[&key_of(number), SHARED]));
        let all = u64::from(watcher_count) * 2;
        etcd.until("all watch", |seen| seen.ready.load(Ordering::Relaxed) == all)?;
        Ok(etcd)
    }

    fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = self.put("first") {
            self.process.check()?;
            if start.elapsed() > PATIENCE {
                return Err(error.context("etcd does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// One connection that watches some keys.
    fn watch(&self, keys: &[&str]) {
        let create = |key: &&str| json!({ "create_request": { "key": BASE64_STANDARD.encode(key) } }).to_string();
        let requests: Vec<String> = keys.iter().map(create).collect();
        let request = self.http.post(format!("{}/v3/watch", self.url)).body(requests.join("\n"));
        let seen = self.seen.clone();
        self.runtime.spawn(async move {
            if let Err(error) = follow(request.send().await, &seen).await {
                eprintln!("a watcher of etcd ended: {error:#}");
            }
        });
    }

    fn put(&self, key: &str) -> Result<()> {
        let body = json!({ "key": BASE64_STANDARD.encode(key), "value": BASE64_STANDARD.encode("x".repeat(400)) });
        let request = self.http.post(format!("{}/v3/kv/put", self.url)).body(body.to_string());
        self.runtime.block_on(async { request.send().await?.error_for_status() })?;
        Ok(())
    }

    /// Milliseconds from a put until its one watcher has it.
    pub(super) fn put_to_watcher_ms(&self, number: u32) -> Result<f64> {
        self.put_until(&key_of(number), 1)
    }

    /// Milliseconds from a put until all that watch the key have it.
    pub(super) fn put_to_all_ms(&self, watcher_count: u32) -> Result<f64> {
        self.put_until(SHARED, watcher_count)
    }

    fn put_until(&self, key: &str, watcher_count: u32) -> Result<f64> {
        let before = self.seen.count.load(Ordering::Acquire);
        let start = monotonic_time()?;
        self.put(key)?;
        let wanted = before + u64::from(watcher_count);
        self.until("all have the event", |seen| seen.count.load(Ordering::Acquire) >= wanted)?;
        Ok((self.seen.at_ns.load(Ordering::Acquire) as f64 - start.as_nanos() as f64) / 1e6)
    }

    fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) -> Result<()> {
        let start = Instant::now();
        while !is_so(&self.seen) {
            ensure!(start.elapsed() < PATIENCE, "not in {PATIENCE:?} at etcd: {what}");
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// The middle and the hundredth part of so many.
pub(super) fn percentiles(mut values: Vec<f64>, [p50, p99]: [&mut Samples; 2]) {
    values.sort_unstable_by(f64::total_cmp);
    p50.push(values[values.len() / 2]);
    p99.push(values[values.len() * 99 / 100]);
}

/// Counts what a watch stream says, a line of JSON each.
async fn follow(answer: reqwest::Result<Response>, seen: &Seen) -> Result<()> {
    let (mut answer, mut lines) = (answer?.error_for_status()?, Vec::new());
    while let Some(chunk) = answer.chunk().await? {
        lines.extend_from_slice(&chunk);
        let Some(end) = lines.iter().rposition(|byte| *byte == b'\n') else { continue };
        for line in lines[..end].split(|byte| *byte == b'\n') {
            let told: Value = serde_json::from_slice(line).context("what is not JSON came")?;
            let result = &told["result"];
            if result["created"] == true {
                seen.ready.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(events) = result["events"].as_array() {
                let at_ns = monotonic_time()?.as_nanos() as u64;
                seen.at_ns.fetch_max(at_ns, Ordering::AcqRel);
                seen.count.fetch_add(events.len() as u64, Ordering::AcqRel);
            }
        }
        lines.drain(..=end);
    }
    bail!("its stream ended")
}

fn key_of(number: u32) -> String {
    format!("node/{number}")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
