//! Asking the agent of this host, as an application.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use persona_core::wire::api::AssignmentView;
use persona_core::wire::ask::{Ask, Refused, Told};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec};

/// The agent answers within this time, or the manager does not.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The longest answer, bytes.
const ANSWER_LENGTH_MAX: usize = 1 << 20;

/// A question that was not answered as wished.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nobody answers there.
    #[error("no agent answers on {path}: its configuration has to set requests.socket")]
    Unreachable {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It said no.
    #[error("{}", told(.0))]
    Refused(Refused),
    /// It said nothing, or what is no answer.
    #[error("the agent's answer cannot be read: {0}")]
    Answer(String),
}

fn told(refused: &Refused) -> String {
    let parts = refused.errors.iter().map(|part| format!("\n  {}: {}", part.path, part.detail));
    format!("{}{}", refused.detail, parts.collect::<String>())
}

/// Asks the agent at a socket.
pub async fn ask(path: &Path, ask: &Ask) -> Result<AssignmentView, LocalError> {
    let unreachable = |source| LocalError::Unreachable { path: path.to_owned(), source };
    let stream = UnixStream::connect(path).await.map_err(unreachable)?;
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(ANSWER_LENGTH_MAX));
    let broken = |error: &dyn std::fmt::Display| LocalError::Answer(error.to_string());
    lines.send(serde_json::to_string(ask).expect("a question has string keys only")).await.map_err(|it| broken(&it))?;
    let line = tokio::time::timeout(ANSWER_TIME, lines.next()).await.map_err(|it| broken(&it))?;
    let line = line.ok_or_else(|| broken(&"it closed the connection, too many applications ask"))?;
    let line = line.map_err(|it| broken(&it))?;
    match serde_json::from_str(&line).map_err(|it| broken(&it))? {
        Told::Assignment(view) => Ok(view),
        Told::Refused(refused) => Err(LocalError::Refused(refused)),
    }
}
