//! Network namespaces other than our own: connections into them, and their numbers as links tell them.
#![expect(unsafe_code, reason = "setns(2) has no safe form in the standard library")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::given_socket::{GIVEN, GivenSocket};
use super::{Netlink, NetlinkError, failed};
use crate::privilege::{self, SocketKind};

/// Runs a function on a thread of its own inside a network namespace; also /proc/sys/net is that namespace's there.
pub fn run_inside<T: Send>(namespace: &File, function: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || enter(namespace).map(|()| function()));
        inside.join().map_err(|_| io::Error::other("the thread inside panicked"))?
    })
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: two integers; the descriptor is open for as long as `namespace` lives. Only this thread moves.
    let outcome = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Netlink {
    /// Opens a connection to the kernel of another network namespace. A socket stays in the namespace that it was made in; the
    /// current runtime serves it.
    pub fn open_inside(namespace: &File) -> Result<Self, NetlinkError> {
        let opened = privilege::socket_inside(namespace, SocketKind::Route).and_then(|socket| {
            GIVEN.set(Some(socket));
            rtnetlink::new_connection_with_socket::<GivenSocket>()
        });
        let (connection, handle, _) = opened.map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The number that links of our namespace call another namespace by (IFLA_LINK_NETNSID). None: no link needed one yet.
    pub async fn namespace_id(&self, namespace: &File) -> Result<Option<i32>, NetlinkError> {
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::Fd(namespace.as_raw_fd() as u32)];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST;
        let what = "number of a network namespace";
        let mut answers = self.handle.clone().request(request).map_err(failed(what))?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::Error(error) => return Err(failed(what)(rtnetlink::Error::NetlinkError(error))),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(found)) => {
                    let id = found.attributes.iter().find_map(|attribute| match attribute {
                        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                        _ => None,
                    });
                    return Ok(id);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
