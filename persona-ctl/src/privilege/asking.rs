//! The verbs as the agent's code calls them: done by this process, or by the helper if there is one.

use std::fs::File;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use persona_core::limit::Knob;

use super::bounds::Bounds;
use super::frame;
use super::perform::perform;
use super::verb::{Answer, SocketKind, Verb};
use crate::limits::Container;

/// How long the helper may take: a Docker Engine has five seconds of it.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The helper's socket, once for the life of this process: whose rights it has does not change. Not set: its own.
static HELPER: OnceLock<PathBuf> = OnceLock::new();

/// From now on, everything is asked of the helper at this socket.
pub(crate) fn use_helper(socket: PathBuf) {
    // A role starts once per process.
    let _ = HELPER.set(socket);
}

/// Writes a limit of a control group; the file is not made.
pub(crate) fn write_knob(folder: &Path, file: &str, text: &str) -> io::Result<()> {
    let (folder, file, text) = (folder.to_owned(), file.to_owned(), text.to_owned());
    ask(Verb::WriteKnob { folder, file, text }, None).map(drop)
}

/// Has systemd set a limit of a unit. Blocks, and drives a runtime of its own.
pub(crate) fn set_unit_limit(unit: &str, knob: &Knob, value: &str) -> io::Result<()> {
    ask(Verb::SetUnitLimit { unit: unit.to_owned(), knob: knob.clone(), value: value.to_owned() }, None).map(drop)
}

/// Opens a network namespace.
pub(crate) fn open_namespace(path: &Path) -> io::Result<File> {
    Ok(handed(ask(Verb::OpenNamespace { path: path.to_owned() }, None)?)?.into())
}

/// Finds the namespace that links call by a number. Blocks for as long as looking at every process takes, and drives a
/// runtime of its own.
pub(crate) fn namespace_behind(id: i32, hint: Option<PathBuf>) -> io::Result<(PathBuf, File)> {
    match ask(Verb::NamespaceBehind { id, hint }, None)? {
        (Answer::Found(path), Some(file)) => Ok((path, file.into())),
        (answer, _) => Err(unexpected(&answer)),
    }
}

/// Makes a socket inside a namespace.
pub(crate) fn socket_inside(namespace: &File, kind: SocketKind) -> io::Result<OwnedFd> {
    handed(ask(Verb::SocketInside { kind }, Some(namespace.as_fd()))?)
}

/// Switches IPv6 on for an interface inside a namespace.
pub(crate) fn allow_ipv6(namespace: &File, interface: &str) -> io::Result<()> {
    ask(Verb::AllowIpv6 { interface: interface.to_owned() }, Some(namespace.as_fd())).map(drop)
}

/// A kernel parameter of the network inside a namespace, set first if a value is given.
pub(crate) fn net_parameter(namespace: &File, name: &str, value: Option<&str>) -> io::Result<String> {
    let verb = Verb::NetParameter { name: name.to_owned(), value: value.map(str::to_owned) };
    match ask(verb, Some(namespace.as_fd()))? {
        (Answer::Text(text), _) => Ok(text),
        (answer, _) => Err(unexpected(&answer)),
    }
}

/// Connects to a guest's monitor.
pub(crate) fn connect_monitor(path: &Path) -> io::Result<UnixStream> {
    Ok(handed(ask(Verb::ConnectMonitor { path: path.to_owned() }, None)?)?.into())
}

/// Connects to the port of the agent inside a guest.
pub(crate) fn connect_guest(path: &Path) -> io::Result<UnixStream> {
    Ok(handed(ask(Verb::ConnectGuest { path: path.to_owned() }, None)?)?.into())
}

/// Asks an engine for a container. Blocks, and drives a runtime of its own.
pub(crate) fn inspect_container(socket: &Path, name: &str) -> io::Result<Container> {
    match ask(Verb::InspectContainer { socket: socket.to_owned(), name: name.to_owned() }, None)? {
        (Answer::Container(container), _) => Ok(container),
        (answer, _) => Err(unexpected(&answer)),
    }
}

/// The first process of a container, by its runtime's state file.
pub(crate) fn first_process(state: &Path) -> io::Result<u32> {
    match ask(Verb::FirstProcess { state: state.to_owned() }, None)? {
        (Answer::Process(pid), _) => Ok(pid),
        (answer, _) => Err(unexpected(&answer)),
    }
}

/// A process's root folder, to open below it what everybody may.
pub(crate) fn open_root(pid: u32) -> io::Result<File> {
    Ok(handed(ask(Verb::OpenRoot { pid }, None)?)?.into())
}

/// Keeps our block in a policy file of getaddrinfo. Returns whether it was changed.
pub(crate) fn keep_address_policy(path: &Path, prefixes: &[(Ipv6Addr, u8)]) -> io::Result<bool> {
    match ask(Verb::KeepAddressPolicy { path: path.to_owned(), prefixes: prefixes.to_vec() }, None)? {
        (Answer::Changed(is_changed), _) => Ok(is_changed),
        (answer, _) => Err(unexpected(&answer)),
    }
}

/// What a program of anybody's is called.
pub(crate) fn describe_program(id: u32) -> io::Result<String> {
    match ask(Verb::DescribeProgram { id }, None)? {
        (Answer::Text(name), _) => Ok(name),
        (answer, _) => Err(unexpected(&answer)),
    }
}

/// What stands in the join token's file.
pub(crate) fn read_join_token(path: &Path) -> io::Result<String> {
    match ask(Verb::ReadJoinToken { path: path.to_owned() }, None)? {
        (Answer::Text(token), _) => Ok(token),
        (answer, _) => Err(unexpected(&answer)),
    }
}

/// Takes a link off a network device.
pub(crate) fn detach_link(id: u32) -> io::Result<()> {
    ask(Verb::DetachLink { id }, None).map(drop)
}

/// Takes a program off a TCX hook.
pub(crate) fn detach_program(ifindex: u32, is_egress: bool, id: u32) -> io::Result<()> {
    ask(Verb::DetachProgram { ifindex, is_egress, id }, None).map(drop)
}

fn ask(verb: Verb, given: Option<BorrowedFd<'_>>) -> io::Result<(Answer, Option<OwnedFd>)> {
    match HELPER.get() {
        None => perform(&Bounds::Own, verb, given.map(|fd| fd.try_clone_to_owned()).transpose()?),
        Some(socket) => ask_at(socket, &verb, given),
    }
}

/// Asks a helper. What it could not do comes back as its error, with the kernel's number if that was the reason.
fn ask_at(socket: &Path, verb: &Verb, given: Option<BorrowedFd<'_>>) -> io::Result<(Answer, Option<OwnedFd>)> {
    let unreachable =
        |error: io::Error| io::Error::other(format!("the helper at {} does not answer: {error}", socket.display()));
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    frame::send(&mut stream, verb, given).map_err(unreachable)?;
    match frame::receive(&mut stream).map_err(unreachable)? {
        (Answer::Failed { errno: Some(number), .. }, _) => Err(io::Error::from_raw_os_error(number)),
        (Answer::Failed { errno: None, reason }, _) => Err(io::Error::other(reason)),
        answered => Ok(answered),
    }
}

fn handed((answer, descriptor): (Answer, Option<OwnedFd>)) -> io::Result<OwnedFd> {
    descriptor.ok_or_else(|| unexpected(&answer))
}

fn unexpected(answer: &Answer) -> io::Error {
    // Its text may be a secret.
    let told = if matches!(answer, Answer::Text(_)) { "a text".to_owned() } else { format!("{answer:?}") };
    io::Error::other(format!("the helper answers {told}, which was not asked for"))
}

#[cfg(test)]
mod tests;
