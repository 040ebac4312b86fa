//! The monotonic clock, waiting on sockets, and a better place in the scheduler for threads that must not be late.
#![expect(unsafe_code, reason = "poll(2) and sched_setscheduler(2) have no safe form in the standard library")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The lowest real-time priority: above every ordinary thread, below everything that chose more.
const REAL_TIME_PRIORITY: i32 = 1;

/// Nanoseconds of the monotonic clock since this process first asked.
pub fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Waits until one of the sockets can be read or `limit` is over.
pub fn sleep_until_readable(sockets: &[BorrowedFd<'_>], limit: Duration) {
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|socket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let limit_ms = i32::try_from(limit.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX);
    // SAFETY: `polled` is a live array of its own length, and the borrowed descriptors outlive the call. A failure is an
    // early return, which the callers treat as "nothing yet".
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit_ms) };
}

/// Asks for round-robin real-time scheduling of this thread; without the privilege it stays an ordinary thread.
pub fn prefer_this_thread(name: &str) {
    let (policy, priority) = (libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, REAL_TIME_PRIORITY);
    // SAFETY: 0 is the calling thread, and the priority, all that the kernel's `struct sched_param` has, lives through the call.
    // musl's own function does nothing but fail, because POSIX means a process.
    let outcome = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    if outcome != 0 {
        let error = std::io::Error::last_os_error();
        tracing::info!(thread = name, %error, "no real-time scheduling: on a busy host edge failures may be seen later");
    }
}
