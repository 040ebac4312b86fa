//! Programs that ask one question after the other over TLS, each with an access token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use persona_core::wire::api::{AccessRole, NewAccessToken};
use persona_core::wire::credential::Credential;
use persona_ctl::client::{Access, ApiClient};
use persona_ctl::trust::Trust;
use tokio::runtime::Runtime;

use super::manager::Manager;

/// Connections, and questions under way on each.
const CONNECTION_COUNT: usize = 4;
const QUESTION_COUNT: usize = 16;

/// How long they ask.
const ASKING_TIME: Duration = Duration::from_secs(3);

/// The programs.
pub(super) struct Readers {
    clients: Vec<ApiClient>,
    runtime: Runtime,
}

impl Readers {
    /// Programs that may read.
    pub(super) fn new(manager: &Manager) -> Result<Self> {
        let new = NewAccessToken { name: "readers".into(), role: AccessRole::Viewer, ttl_ms: 3_600_000 };
        let secret = manager.ask(manager.client.create_access_token(&new))?;
        let token = secret.token.parse::<Credential>()?.bearer();
        let trust = Trust::from_pem(&std::fs::read_to_string(manager.roots())?)?;
        let (url, token) = (manager.url(), Some(token));
        let access = Access { manager: url, trust: Some(trust), token, ..Access::default() };
        let clients = (0..CONNECTION_COUNT).map(|_| Ok(ApiClient::open(&access)?)).collect::<Result<_>>()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { clients, runtime })
    }

    /// How many questions about one node each are answered in a second.
    pub(super) fn answers_per_sec(&self, node_count: u32) -> Result<f64> {
        let (is_over, answer_count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        let ask = |(index, client): (usize, &ApiClient)| {
            let (client, is_over, answer_count) = (client.clone(), is_over.clone(), answer_count.clone());
            self.runtime.spawn(async move {
                let mut node = index as u32;
                while !is_over.load(Ordering::Relaxed) {
                    client.node(&format!("n{}", node % node_count).parse()?).await?;
                    answer_count.fetch_add(1, Ordering::Relaxed);
                    node = node.wrapping_mul(31).wrapping_add(7);
                }
                Ok::<(), anyhow::Error>(())
            })
        };
        let clients = std::iter::repeat_n(&self.clients, QUESTION_COUNT).flatten();
        let tasks: Vec<_> = clients.enumerate().map(ask).collect();
        std::thread::sleep(ASKING_TIME);
        is_over.store(true, Ordering::Relaxed);
        let rate = answer_count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
        self.runtime.block_on(async {
            for task in tasks {
                task.await??;
            }
            Ok(rate)
        })
    }
}
