//! The helper: one request per connection, from one user only, each in a thread of its own, and a line in the log for each.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;

use super::bounds::{Bounds, Refused};
use super::frame;
use super::perform::perform;
use super::verb::{Answer, Verb};

/// Requests at a time. Who comes beside them is turned away at once.
const REQUEST_COUNT_MAX: usize = 32;

/// How long a client may take over its request, and over taking the answer.
const CLIENT_TIME: Duration = Duration::from_secs(5);

/// Serves whoever the socket's file belongs to, for good.
///
/// # Errors
/// The socket has no file, or takes no connections any more.
pub fn serve(listener: &UnixListener, bounds: &Bounds) -> io::Result<()> {
    let address = listener.local_addr()?;
    let path = address.as_pathname().ok_or_else(|| io::Error::other("the socket has no file that says whose it is"))?;
    let uid = std::fs::metadata(path)?.uid();
    tracing::info!(path = %path.display(), uid, "the helper serves this user");
    let running = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = stream?;
        if running.fetch_add(1, Ordering::AcqRel) >= REQUEST_COUNT_MAX {
            running.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!("more than {REQUEST_COUNT_MAX} requests at a time: one is turned away");
            continue;
        }
        let (running, bounds) = (Arc::clone(&running), bounds.clone());
        std::thread::spawn(move || {
            if let Err(error) = attend(stream, uid, &bounds) {
                tracing::warn!(%error, "a request was not answered");
            }
            running.fetch_sub(1, Ordering::AcqRel);
        });
    }
    Ok(())
}

fn attend(mut stream: UnixStream, uid: u32, bounds: &Bounds) -> io::Result<()> {
    let peer = socket_peercred(stream.as_fd())?;
    if peer.uid.as_raw() != uid {
        let told = format!("user {} is not user {uid}, whom the helper serves", peer.uid.as_raw());
        return Err(Refused(told).into());
    }
    stream.set_read_timeout(Some(CLIENT_TIME))?;
    stream.set_write_timeout(Some(CLIENT_TIME))?;
    let (verb, given) = frame::receive::<Verb>(&mut stream)?;
    let outcome = perform(bounds, verb.clone(), given);
    tell(&verb, outcome.as_ref().err());
    let (answer, descriptor) = outcome.unwrap_or_else(|error| (failed(&error), None));
    frame::send(&mut stream, &answer, descriptor.as_ref().map(AsFd::as_fd))
}

fn failed(error: &io::Error) -> Answer {
    Answer::Failed { errno: error.raw_os_error(), reason: error.to_string() }
}

/// What only looks is told to who wants to know, what changes something or was refused to everybody.
fn tell(verb: &Verb, error: Option<&io::Error>) {
    match error {
        Some(error) if error.get_ref().is_some_and(|inner| inner.is::<Refused>()) => {
            tracing::warn!(?verb, %error, "not done");
        }
        Some(error) if verb.is_change() => tracing::info!(?verb, %error, "not done"),
        Some(error) => tracing::debug!(?verb, %error, "not done"),
        None if verb.is_change() => tracing::info!(?verb, "done"),
        None => tracing::debug!(?verb, "done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_is_not_listened_to() {
        let (client, served) = UnixStream::pair().unwrap();
        let own = socket_peercred(client.as_fd()).unwrap().uid.as_raw();
        let error = attend(served, own + 1, &Bounds::Own).unwrap_err();
        assert!(error.to_string().contains("whom the helper serves"), "{error}");
        assert!(frame::receive::<Answer>(&mut { client }).is_err(), "nothing is said to him");
    }
}
