//! The slow path: what kernel programs cannot do with a packet, done in user space (contract §7).
//!
//! Programs redirect two kinds of packets to a TAP device that this process owns: finished tunnel packets whose inner
//! packet is to be cut, and later fragments whose first has not come yet. A thread takes them off, does what is missing,
//! and sends them on through raw sockets with our mark. When the process dies the device vanishes with it; programs then
//! count `no-slow-path`.

mod counters;
mod cut;
mod facts;
mod fate;
mod frame;
mod ip;
mod keeper;
mod queue;
mod raw_socket;
mod rewrite;
mod tap;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use counters::SlowPathCounters;
pub use facts::{Facts, LeaseFacts, Role, wire_ifindex};
pub use fate::{Fate, Fates};
pub use frame::Outer;
pub use keeper::Keeper;
pub use queue::{Key, Way};
pub use rewrite::{Hops, Rewrite};
pub(crate) use tap::{Tap, bring_up};

use worker::{Shared, State, Worker};

/// How long the device of a process that has just been killed may take to vanish.
const BUSY_TIME: Duration = Duration::from_secs(1);

/// The slow path cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SlowPathError {
    /// The device cannot be made.
    #[error(
        "slow path's device {name} cannot be made: load the tun module, and give the process /dev/net/tun and CAP_NET_ADMIN"
    )]
    Device {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The raw sockets cannot be opened.
    #[error("slow path's raw sockets cannot be opened: CAP_NET_RAW and CAP_NET_ADMIN are needed")]
    Sockets(#[source] io::Error),
    /// No thread.
    #[error("slow path's thread cannot be started")]
    Thread(#[source] io::Error),
}

impl Role {
    /// The device's name. A host may be node and edge at once.
    pub fn device_name(self) -> &'static str {
        match self {
            Self::Node => "persona-slow",
            Self::Edge => "persona-slow-e",
        }
    }
}

/// The running slow path. Dropping it takes the device away.
pub struct SlowPath {
    role: Role,
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    ifindex: u32,
    thread: JoinHandle<()>,
}

impl SlowPath {
    /// A slow path without a device yet; `fates` reads the programs' table of fragments.
    pub fn new(role: Role, fates: Box<dyn Fates>) -> Self {
        let state = State { fates: Some(fates), ..State::default() };
        let shared = Arc::new(Shared { is_stopping: false.into(), state: state.into() });
        Self { role, shared, running: None }
    }

    /// Sees to it that the device is there and served, in this thread's network namespace; returns its index. Until that
    /// index is in the programs' tables nothing comes here. A device that somebody took away is made again.
    pub fn ensure(&mut self, is_up: impl Fn(u32) -> bool) -> Result<u32, SlowPathError> {
        if let Some(running) = self.running.as_ref().filter(|it| !it.thread.is_finished() && is_up(it.ifindex)) {
            return Ok(running.ifindex);
        }
        self.stop();
        let name = self.role.device_name();
        let tap = create(name).map_err(|source| SlowPathError::Device { name, source })?;
        let ifindex = tap.ifindex();
        let worker = Worker {
            role: self.role,
            tap,
            socket: raw_socket::RawSocket::open().map_err(SlowPathError::Sockets)?,
            shared: Arc::clone(&self.shared),
            queue: Default::default(),
            identifications: Default::default(),
        };
        let thread = std::thread::Builder::new().name("persona-slow".into()).spawn(move || worker.run());
        self.running = Some(Running { ifindex, thread: thread.map_err(SlowPathError::Thread)? });
        tracing::info!(device = name, ifindex, "slow path is ready");
        Ok(ifindex)
    }

    /// The device's index while it is served.
    pub fn ifindex(&self) -> Option<u32> {
        self.running.as_ref().filter(|running| !running.thread.is_finished()).map(|running| running.ifindex)
    }

    /// What holds for leases from now on.
    pub fn set_facts(&self, facts: Facts) {
        let mut state = self.shared.lock();
        if *state.facts != facts {
            state.facts = Arc::new(facts);
        }
    }

    /// What was counted since the process started.
    pub fn counters(&self) -> SlowPathCounters {
        self.shared.lock().counters.clone()
    }

    fn stop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take()
            && running.thread.join().is_err()
        {
            tracing::error!("the slow path's thread had panicked");
        }
        self.shared.is_stopping.store(false, Ordering::Relaxed);
    }
}

impl Drop for SlowPath {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes the device, waiting for that of a process just killed to go.
fn create(name: &str) -> io::Result<tap::Tap> {
    let deadline = Instant::now() + BUSY_TIME;
    loop {
        match tap::Tap::create(name) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}
