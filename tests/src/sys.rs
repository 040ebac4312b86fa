//! The few system calls that std has no words for: entering a network namespace, signals by process id, a large receive
//! buffer.
#![expect(unsafe_code, reason = "setns, kill and setsockopt have no safe form in std")]

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Bytes of receive buffer for sockets whose losses are counted: 64 MiB holds minutes of our test traffic.
const RECEIVE_BUFFER_BYTES: libc::c_int = 64 << 20;

/// A signal to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
}

/// Moves the calling thread into a network namespace.
pub fn enter_network_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: setns takes two integers; the descriptor is open for as long as `namespace` lives.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Makes a command start in a network namespace and in a process group of its own, so that Ctrl-C on the terminal
/// reaches only whoever cleans up.
pub fn start_in_network_namespace(command: &mut Command, namespace: File) {
    let enter = move || enter_network_namespace(&namespace);
    // SAFETY: between fork and exec the closure only calls setns, which is async-signal-safe; it allocates nothing.
    unsafe { command.pre_exec(enter) };
    command.process_group(0);
}

/// Sends a signal to one process.
pub fn kill(pid: u32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    // SAFETY: kill takes two integers. The pid is positive, so exactly one process is meant.
    check(unsafe { libc::kill(pid as libc::pid_t, number) })
}

/// Gives a socket a receive buffer that a pause of this process does not overflow. Needs CAP_NET_ADMIN.
pub fn enlarge_receive_buffer(socket: &UdpSocket) -> io::Result<()> {
    let size = RECEIVE_BUFFER_BYTES;
    // SAFETY: the pointer and the length describe `size`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
