//! The socket: each connection is of one process, whose subject is found out when it connects and stays that of the connection.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use persona_core::ids::SubjectId;
use persona_core::wire::ask::{AgentAsk, Ask, LINE_LENGTH_MAX, Refused, Told};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::codec::{Framed, LinesCodec};
use tokio_util::sync::CancellationToken;

use super::peer::Peer;
use super::who::Places;
use crate::manager_link::Asker;
use crate::netlink::Netlink;

/// Connections at a time. Who comes beside them is told so at once: a connection that waits could outlive its process.
const CONNECTION_COUNT_MAX: usize = 64;

/// A connection on which nothing is asked for so long is closed.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Where the kernel shows processes.
const PROCESSES: &str = "/proc";

/// The socket; its file goes when this is dropped.
#[derive(Debug)]
pub(in crate::agent) struct RequestSocket {
    path: PathBuf,
    places: watch::Sender<Places>,
}

impl RequestSocket {
    /// Says where subjects are now.
    pub(in crate::agent) fn know(&self, places: Places) {
        self.places.send_if_modified(|known| std::mem::replace(known, places.clone()) != places);
    }
}

impl Drop for RequestSocket {
    fn drop(&mut self) {
        // A file that is left is taken over by the next process.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What connections need.
struct Desk {
    netlink: Netlink,
    asker: Asker,
    places: watch::Receiver<Places>,
}

/// Serves applications until `stop` is cancelled.
pub(in crate::agent) fn serve(
    path: &Path,
    netlink: Netlink,
    asker: Asker,
    stop: &CancellationToken,
) -> anyhow::Result<RequestSocket> {
    let listener = listen(path).with_context(|| format!("request socket {} cannot be served", path.display()))?;
    let (sender, places) = watch::channel(Places::default());
    let desk = Arc::new(Desk { netlink, asker, places });
    let accept = async move {
        let room = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match Arc::clone(&room).try_acquire_owned() {
                    Ok(place) => {
                        let desk = Arc::clone(&desk);
                        tokio::spawn(async move {
                            // Whoever goes away in the middle has said all that it wanted.
                            let _ = desk.attend(stream).await;
                            drop(place);
                        });
                    }
                    Err(_) => drop(stream),
                },
                Err(error) => {
                    tracing::warn!(%error, "an application could not connect");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
    Ok(RequestSocket { path: path.to_owned(), places: sender })
}

/// Any application may connect: what it may have is decided by whose it is.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

impl Desk {
    async fn attend(&self, stream: UnixStream) -> Result<(), tokio_util::codec::LinesCodecError> {
        let who = self.identify(&stream).await;
        let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LINE_LENGTH_MAX));
        while let Ok(Some(line)) = tokio::time::timeout(IDLE_TIME, lines.next()).await {
            let line = line?;
            let told = match &who {
                Ok((subject, by)) => self.answer(subject, by, &line).await,
                Err(detail) => refused(detail.clone()),
            };
            lines.send(serde_json::to_string(&told).expect("an answer has string keys only")).await?;
        }
        Ok(())
    }

    /// Whose process it is, and what it is called. The process must still be there afterwards: else its number, by which it was
    /// looked up, may have been another's.
    async fn identify(&self, stream: &UnixStream) -> Result<(SubjectId, String), String> {
        let peer = Peer::of(stream).map_err(|error| format!("it is not known which process asks: {error}"))?;
        let places = self.places.borrow().clone();
        let subject = places.subject_of(&self.netlink, Path::new(PROCESSES), peer.pid).await;
        let subject = subject.map_err(|nobody| nobody.to_string())?;
        let by = format!("process {} ({}) of user {}", peer.pid, name_of(peer.pid), peer.uid);
        if !peer.is_there() {
            return Err(format!("process {} has ended: the one that connects has to stay", peer.pid));
        }
        Ok((subject, by))
    }

    async fn answer(&self, subject: &SubjectId, by: &str, line: &str) -> Told {
        let ask: Ask = match serde_json::from_str(line) {
            Ok(ask) => ask,
            Err(error) => return refused(format!("the line is no question: {error}")),
        };
        let ask = AgentAsk { subject: subject.clone(), by: by.to_owned(), ask };
        self.asker.ask(&ask).await
    }
}

fn refused(detail: String) -> Told {
    Told::Refused(Refused { detail, errors: Vec::new() })
}

/// The name of a process, without what would break a line.
fn name_of(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("{PROCESSES}/{pid}/comm")).unwrap_or_default();
    name.chars().filter(|letter| !letter.is_control()).collect()
}
