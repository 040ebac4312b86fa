//! One connection to the agent inside a guest: everything that is wanted goes in again and again, what it says comes out.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use persona_core::guest::read_tell;
use persona_core::ids::WorkloadName;
use persona_core::wire::guest::{GUEST_PROTOCOL, GuestWant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use super::heard::Heard;
use super::keeper::Wanted;
use super::lines::Lines;
use crate::privilege;

/// What is wanted is said again after this time: the guest may have been started meanwhile.
const REPEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How long a guest may leave what is said to it unread.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// Lines without a meaning that are borne in one connection, one after the other.
const ODD_LINE_COUNT_MAX: u32 = 64;

/// Connects to the host's side of a guest's port.
pub(super) async fn connect(path: &Path) -> io::Result<tokio::net::UnixStream> {
    let owned = path.to_owned();
    let stream = tokio::task::spawn_blocking(move || privilege::connect_guest(&owned)).await;
    let stream = stream.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

/// Says what is wanted and listens, until the connection ends. Returns why.
pub(super) async fn attend(
    workload: &WorkloadName,
    stream: impl AsyncRead + AsyncWrite,
    mut wanted: watch::Receiver<Wanted>,
    heard: &Heard,
) -> String {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = Lines::of(reader);
    let session = new_session();
    let (mut odd_count, mut repeat) = (0, tokio::time::interval(REPEAT_INTERVAL));
    loop {
        tokio::select! {
            _ = repeat.tick() => {}
            changed = wanted.changed() => if changed.is_err() { return "the agent stops".to_owned() },
            line = lines.next() => {
                let line = match line {
                    Ok(Some(line)) => line,
                    Ok(None) => return "the port was closed: the guest may have ended".to_owned(),
                    Err(error) => return format!("the port cannot be read: {error}"),
                };
                match read_tell(&line, session) {
                    Ok(tell) => {
                        odd_count = 0;
                        heard.note(workload, tell);
                    }
                    Err(_) if odd_count < ODD_LINE_COUNT_MAX => odd_count += 1,
                    Err(error) => return error.to_string(),
                }
                continue;
            }
        }
        let want = wanted.borrow_and_update().of(workload, session);
        let Some(want) = want else { continue };
        match tokio::time::timeout(WRITE_TIME, write(&mut writer, &want)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("the port cannot be written to: {error}"),
            Err(_) => return "it reads nothing: start persona-ctl agent --guest in it".to_owned(),
        }
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), want: &GuestWant) -> io::Result<()> {
    let mut line = serde_json::to_vec(want)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.flush().await
}

/// Another number for each connection; it need not be a secret.
fn new_session() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    now.max(1)
}

impl Wanted {
    /// What is wanted of one guest. None: nothing is known yet.
    fn of(&self, workload: &WorkloadName, session: u64) -> Option<GuestWant> {
        let (generation, worn) = self.0.as_deref()?;
        let worn = worn.get(workload).cloned().unwrap_or_default();
        let (security, software) = (worn.security, worn.software);
        Some(GuestWant { protocol: GUEST_PROTOCOL, session, generation: *generation, security, software })
    }
}
