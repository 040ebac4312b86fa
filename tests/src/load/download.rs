//! A download whose gaps are measured: the longest time without a byte, over any window that a step marks.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::netns::Namespace;
use crate::sys;
use crate::world::INTERNET_ADDRESS;

/// How long a connection may take to stand.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The receive buffer of a download that fits into a persona's queue: twice as many bytes may be under way, and the queue
/// holds 256 KiB at the demo's rates.
const FITTING_BYTES: u16 = 60_000;

/// A read returns at least this often, so that a download can be stopped.
const READ_TIME: Duration = Duration::from_millis(50);

/// A download without a byte for this long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(15);

#[derive(Debug)]
struct Progress {
    bytes: u64,
    last_byte: Instant,
    worst_gap: Duration,
    client: Option<String>,
    stop: bool,
    outcome: Option<Result<(), String>>,
}

/// A running download.
#[derive(Debug)]
pub struct Download {
    progress: Arc<Mutex<Progress>>,
    thread: Option<JoinHandle<()>>,
}

impl Download {
    /// Starts one by IPv4 inside a namespace, of a path such as `/endless`.
    pub fn start(inside: &Namespace, path: &str) -> Result<Self> {
        Self::start_from(INTERNET_ADDRESS.parse().expect("a constant address"), inside, path)
    }

    /// Starts one that takes the persona's whole rate, but never fills its queue: no more is ever under way than the
    /// queue holds. What else goes through the queue meanwhile is not dropped for its sake.
    pub fn start_fitting(inside: &Namespace, path: &str) -> Result<Self> {
        Self::start_fitting_from(INTERNET_ADDRESS.parse().expect("a constant address"), inside, path)
    }

    /// The same from a server.
    pub fn start_fitting_from(server: IpAddr, inside: &Namespace, path: &str) -> Result<Self> {
        let stream = connect(server, inside)?;
        sys::limit_receive_buffer(&stream, FITTING_BYTES).context("the receive buffer cannot be limited")?;
        Self::start_on(stream, path)
    }

    /// Starts one from a server.
    pub fn start_from(server: IpAddr, inside: &Namespace, path: &str) -> Result<Self> {
        Self::start_on(connect(server, inside)?, path)
    }

    fn start_on(stream: TcpStream, path: &str) -> Result<Self> {
        stream.set_read_timeout(Some(READ_TIME))?;
        let now = Instant::now();
        let progress =
            Progress { bytes: 0, last_byte: now, worst_gap: Duration::ZERO, client: None, stop: false, outcome: None };
        let progress = Arc::new(Mutex::new(progress));
        let (shared, path) = (Arc::clone(&progress), path.to_owned());
        let thread = std::thread::spawn(move || {
            let outcome = fetch(stream, &path, &shared);
            lock(&shared).outcome = Some(outcome.map_err(|error| format!("{error:#}")));
        });
        Ok(Self { progress, thread: Some(thread) })
    }

    /// Waits until so many bytes have come.
    pub fn wait_for_bytes(&self, bytes: u64, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while self.bytes() < bytes {
            if let Some(Err(error)) = &lock(&self.progress).outcome {
                bail!("the download broke: {error}");
            }
            if start.elapsed() > limit {
                bail!("only {} of {bytes} bytes came within {limit:?}", self.bytes());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        lock(&self.progress).bytes
    }

    /// The address and port that the server saw.
    pub fn client(&self) -> Option<String> {
        lock(&self.progress).client.clone()
    }

    /// Begins a window: gaps before it do not count.
    pub fn mark(&self) {
        lock(&self.progress).worst_gap = Duration::ZERO;
    }

    /// The longest gap of the window, one that still lasts included.
    pub fn worst_gap(&self) -> Duration {
        let progress = lock(&self.progress);
        let current = if progress.outcome.is_none() { progress.last_byte.elapsed() } else { Duration::ZERO };
        progress.worst_gap.max(current)
    }

    /// Waits for its end; gives its bytes and the longest gap of the window.
    pub fn finish(mut self, limit: Duration) -> Result<(u64, Duration)> {
        let start = Instant::now();
        loop {
            let outcome = lock(&self.progress).outcome.clone();
            match outcome {
                Some(Ok(())) => break,
                Some(Err(error)) => bail!("the download broke after {} bytes: {error}", self.bytes()),
                None if start.elapsed() > limit => bail!("the download has {} bytes after {limit:?}", self.bytes()),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        self.join();
        Ok((self.bytes(), self.worst_gap()))
    }

    /// Breaks it off; fails if it had broken by itself.
    pub fn stop(mut self) -> Result<u64> {
        lock(&self.progress).stop = true;
        self.join();
        let progress = lock(&self.progress);
        match &progress.outcome {
            Some(Err(error)) => bail!("the download broke after {} bytes: {error}", progress.bytes),
            _ => Ok(progress.bytes),
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the download's thread does not panic");
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        lock(&self.progress).stop = true;
        self.join();
    }
}

fn lock(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress.lock().expect("no holder of the lock panics")
}

fn connect(server: IpAddr, inside: &Namespace) -> Result<TcpStream> {
    let address = SocketAddr::new(server, 80);
    let connect = || TcpStream::connect_timeout(&address, CONNECT_TIME);
    inside.run_inside(connect)?.with_context(|| format!("no connection to {address}"))
}

fn fetch(mut stream: TcpStream, path: &str, progress: &Mutex<Progress>) -> Result<()> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: internet\r\n\r\n")?;
    let mut header = Vec::new();
    let mut remaining: Option<u64> = None;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) if remaining == Some(0) => return Ok(()),
            Ok(0) => bail!("the server closed early"),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(error.into()),
        };
        if !note(progress, length)? {
            return Ok(());
        }
        match &mut remaining {
            Some(remaining) => *remaining = remaining.saturating_sub(length as u64),
            None => {
                header.extend_from_slice(&buffer[..length]);
                remaining = read_header(&header, progress)?;
            }
        }
        if remaining == Some(0) {
            return Ok(());
        }
    }
}

/// Notes that bytes came, or that none did; false when the download shall stop.
fn note(progress: &Mutex<Progress>, length: usize) -> Result<bool> {
    let mut progress = lock(progress);
    let gap = progress.last_byte.elapsed();
    if length > 0 {
        progress.worst_gap = progress.worst_gap.max(gap);
        progress.last_byte = Instant::now();
        progress.bytes += length as u64;
    } else if gap > SILENCE_MAX && !progress.stop {
        bail!("no byte for {SILENCE_MAX:?}");
    }
    Ok(!progress.stop)
}

/// Bytes of the body that are still to come, once the header is whole.
fn read_header(bytes: &[u8], progress: &Mutex<Progress>) -> Result<Option<u64>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes[..end]);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if !text.starts_with("HTTP/1.1 200") {
        bail!("the server answered {:?}", text.lines().next());
    }
    let length: u64 = field("Content-Length:").context("no length in the answer")?.parse()?;
    lock(progress).client = field("X-Client:").map(str::to_owned);
    Ok(Some(length.saturating_sub((bytes.len() - end - 4) as u64)))
}
