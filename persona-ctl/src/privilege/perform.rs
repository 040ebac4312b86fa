//! Does a verb, within bounds.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use persona_core::limit::unit_properties;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::bounds::{Bounds, Refused};
use super::verb::{Answer, Verb};
use super::{knob, namespace};
use crate::agent::{AgentFile, keep_gai_file};
use crate::dataplane::bpf_objects;
use crate::limits::{self, Source};

/// Longest file of a join token that is read, bytes.
const TOKEN_BYTES_MAX: u64 = 8 << 10;

/// Most prefixes of one policy file.
const PREFIX_COUNT_MAX: usize = 64;

/// Does it. `given` came along. Blocks for as long as a runtime or the kernel takes.
pub(super) fn perform(bounds: &Bounds, verb: Verb, given: Option<OwnedFd>) -> io::Result<(Answer, Option<OwnedFd>)> {
    let namespace = || given.ok_or_else(|| io::Error::from(Refused("a namespace has to come along".to_owned())));
    let answer = match verb {
        Verb::WriteKnob { folder, file, text } => {
            knob::write(bounds, &folder, &file, &text)?;
            Answer::Done
        }
        Verb::SetUnitLimit { unit, knob, value } => {
            bounds.require_source(&format!("unit {unit}"), &Source::Unit(unit.clone()))?;
            let properties = unit_properties(&knob, &value);
            let properties =
                properties.ok_or_else(|| Refused(format!("systemd has no property for {knob} = {value}")))?;
            limits::set_unit_properties(&unit, &properties)?;
            Answer::Done
        }
        Verb::OpenNamespace { path } => return handed(namespace::open(bounds, &path)?),
        Verb::NamespaceBehind { id, hint } => {
            let (path, file) = namespace::behind(bounds, id, hint)?;
            return Ok((Answer::Found(path), Some(file)));
        }
        Verb::SocketInside { kind } => return handed(namespace::socket_inside(bounds, namespace()?, kind)?),
        Verb::AllowIpv6 { interface } => {
            namespace::allow_ipv6(bounds, namespace()?, &interface)?;
            Answer::Done
        }
        Verb::NetParameter { name, value } => {
            Answer::Text(namespace::net_parameter(bounds, namespace()?, &name, value.as_deref())?)
        }
        Verb::ConnectMonitor { path } => {
            let what = format!("the monitor {}", path.display());
            bounds.require_source(&what, &Source::Guest(path.clone()))?;
            return handed(UnixStream::connect(&path)?.into());
        }
        Verb::ConnectGuest { path } => {
            let says =
                |file: &AgentFile| file.workload.iter().any(|workload| workload.guest_agent.as_ref() == Some(&path));
            bounds.require(&format!("the guest's port {}", path.display()), says)?;
            return handed(UnixStream::connect(&path)?.into());
        }
        Verb::InspectContainer { socket, name } => {
            let what = format!("container {name} of {}", socket.display());
            bounds.require_source(&what, &Source::Container { socket: socket.clone(), name: name.clone() })?;
            Answer::Container(limits::inspect_container(&socket, &name)?)
        }
        Verb::FirstProcess { state } => {
            let what = format!("the state file {}", state.display());
            bounds.require_source(&what, &Source::Oci(state.clone()))?;
            Answer::Process(limits::first_process_of(&state)?)
        }
        Verb::OpenRoot { pid } => return handed(open_root(bounds, pid)?),
        Verb::KeepAddressPolicy { path, prefixes } => {
            bounds.require_policy_file(&path)?;
            let is_right = prefixes.len() <= PREFIX_COUNT_MAX && prefixes.iter().all(|(_, length)| *length <= 128);
            bounds.ensure(is_right, || "too many prefixes, or one of more than 128 bits".to_owned())?;
            Answer::Changed(keep_gai_file(&path, &prefixes)?)
        }
        Verb::ReadJoinToken { path } => {
            let says = |file: &AgentFile| file.join_token_file.as_ref() == Some(&path);
            bounds.require(&format!("the join token's file {}", path.display()), says)?;
            Answer::Text(read_short(&path)?)
        }
        Verb::DescribeProgram { id } => Answer::Text(bpf_objects::name_of_program(id)?),
        Verb::DetachLink { id } => {
            bpf_objects::detach_device_link(id)?;
            Answer::Done
        }
        Verb::DetachProgram { ifindex, is_egress, id } => {
            bpf_objects::detach_program(ifindex, is_egress, id)?;
            Answer::Done
        }
    };
    Ok((answer, None))
}

fn handed(descriptor: OwnedFd) -> io::Result<(Answer, Option<OwnedFd>)> {
    Ok((Answer::Done, Some(descriptor)))
}

fn read_short(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A path and no more: whoever has it opens below it what he might open himself.
fn open_root(bounds: &Bounds, pid: u32) -> io::Result<OwnedFd> {
    bounds.ensure(pid > 0, || "0 is no process".to_owned())?;
    let path = format!("/proc/{pid}/root");
    Ok(openat(CWD, Path::new(&path), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
