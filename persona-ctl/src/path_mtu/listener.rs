//! Listens for errors of routers, and wakes whoever has to make packets smaller.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::memory::Memory;
use super::quote::{self, TooBig};
use super::socket::ErrorSocket;
use crate::host::error_chain;

/// Larger than any error that a router may send (RFC 1812 §4.3.2.3: 576 bytes, RFC 4443 §3.2: 1,280).
const MESSAGE_BYTES_MAX: usize = 2_048;

/// What the ways carry. Dropping it ends the listening.
#[derive(Debug)]
pub struct PathMtus {
    memory: Arc<Mutex<Memory>>,
    tasks: Vec<JoinHandle<()>>,
}

impl PathMtus {
    /// Starts to listen; `changed` is notified of news. Needs CAP_NET_RAW and a tokio runtime.
    pub fn listen(changed: &Arc<Notify>) -> io::Result<Self> {
        let memory = Arc::<Mutex<Memory>>::default();
        let mut tasks = Vec::new();
        let mut listen_on = |socket: ErrorSocket, read: fn(&[u8]) -> Option<TooBig>| {
            let socket = socket.waiting()?;
            tasks.push(tokio::spawn(hear(socket, read, Arc::clone(&memory), Arc::clone(changed))));
            Ok::<_, io::Error>(())
        };
        listen_on(ErrorSocket::ipv4()?, quote::read_ipv4)?;
        if let Some(socket) = ErrorSocket::ipv6()? {
            listen_on(socket, quote::read_ipv6)?;
        }
        Ok(Self { memory, tasks })
    }

    /// Tunnels lead from `own` to `far_ends` from now on: errors about others change nothing.
    pub fn follow(&self, own: IpAddr, far_ends: BTreeSet<IpAddr>) {
        lock(&self.memory).follow(own, far_ends);
    }

    /// Far end → the largest packet that the way there carries, bytes, where a router has said so within ten minutes.
    pub fn known(&self) -> BTreeMap<IpAddr, u32> {
        lock(&self.memory).known(Instant::now())
    }
}

impl Drop for PathMtus {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn hear(
    socket: AsyncFd<ErrorSocket>,
    read: fn(&[u8]) -> Option<TooBig>,
    memory: Arc<Mutex<Memory>>,
    changed: Arc<Notify>,
) {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        let received = match socket.readable().await {
            Ok(mut ready) => match ready.try_io(|socket| socket.get_ref().receive(&mut buffer)) {
                Ok(received) => received,
                Err(_) => continue, // somebody else's wake-up
            },
            Err(error) => Err(error),
        };
        match received {
            Ok(length) => {
                if let Some(error) = read(&buffer[..length]) {
                    note(&memory, &error, &changed);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::error!(error = error_chain(&error), "errors of routers are not heard any more");
                return;
            }
        }
    }
}

fn note(memory: &Mutex<Memory>, error: &TooBig, changed: &Notify) {
    let news = lock(memory).take(error, Instant::now());
    if let Some(mtu) = news {
        let far_end = error.destination;
        tracing::warn!(event = "mtu.lowered", %far_end, mtu, "a router says that the way there carries less");
        changed.notify_one();
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
