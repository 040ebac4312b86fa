//! TCP connections on which little is said often, and whose silences are measured: a hundred of them fill no queue.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// What is said at once, and how often.
const WORD: [u8; 64] = [7; 64];
const INTERVAL: Duration = Duration::from_millis(10);
/// A read returns at least this often, so that a thread can be stopped.
const READ_TIME: Duration = Duration::from_millis(50);
/// A connection without an answer for this long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// A server that says back what it hears, on every connection.
#[derive(Debug)]
pub struct TalkServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One connection.
#[derive(Debug)]
pub struct Talk {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Debug)]
struct Heard {
    last: Instant,
    worst_gap: Duration,
}

impl TalkServer {
    /// Starts one inside a namespace.
    pub fn start(inside: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = inside.run_inside(|| TcpListener::bind(address))?.context("the address is taken")?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&stop);
        Ok(Self { stop, thread: Some(std::thread::spawn(move || serve(&listener, &shared))) })
    }
}

impl Drop for TalkServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread does not panic");
        }
    }
}

fn serve(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    let mut threads = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            let stop = Arc::clone(stop);
            threads.push(std::thread::spawn(move || answer(stream, &stop)));
        } else {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    threads.into_iter().for_each(|thread| thread.join().expect("an answering thread does not panic"));
}

fn answer(mut stream: TcpStream, stop: &AtomicBool) {
    let mut buffer = [0; 4_096];
    // A connection that cannot be prepared or breaks is one that its client finds broken.
    if stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(READ_TIME))).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if stream.write_all(&buffer[..length]).is_err() => return,
            Ok(_) => {}
            Err(error) if is_patience(&error) => {}
            Err(_) => return,
        }
    }
}

fn is_patience(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

impl Talk {
    /// Opens a connection inside a namespace and begins to talk.
    pub fn start(inside: &Namespace, server: SocketAddr) -> Result<Self> {
        let stream = inside.run_inside(|| TcpStream::connect(server))?.context("no connection")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIME))?;
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(Heard { last: Instant::now(), worst_gap: Duration::ZERO }));
        let thread = std::thread::spawn({
            let (stop, heard) = (Arc::clone(&stop), Arc::clone(&heard));
            move || talk(stream, &stop, &heard)
        });
        Ok(Self { stop, heard, thread })
    }

    /// Begins a window: silences before it do not count.
    pub fn mark(&self) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        (heard.worst_gap, heard.last) = (Duration::ZERO, Instant::now());
    }

    /// The longest silence of the window, one that still lasts included.
    pub fn worst_gap(&self) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.worst_gap.max(heard.last.elapsed())
    }

    /// Ends it; fails if it had broken by itself.
    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the client's thread does not panic")
    }
}

fn talk(mut stream: TcpStream, stop: &AtomicBool, heard: &Mutex<Heard>) -> Result<()> {
    let mut buffer = [0; WORD.len()];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&WORD).context("nothing can be said")?;
        let mut length = 0;
        let asked = Instant::now();
        while length < WORD.len() {
            match stream.read(&mut buffer[length..]) {
                Ok(0) => anyhow::bail!("the server closed the connection"),
                Ok(more) => length += more,
                Err(error) if is_patience(&error) && asked.elapsed() < SILENCE_MAX => {}
                Err(error) => return Err(error).context("no answer"),
            }
        }
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.worst_gap = heard.worst_gap.max(heard.last.elapsed());
        heard.last = Instant::now();
        drop(heard);
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}
