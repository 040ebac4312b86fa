//! A netlink socket that was made elsewhere: rtnetlink opens its own otherwise, in the namespace of the thread that asks.
#![expect(unsafe_code, reason = "netlink-sys takes a socket over by its number only")]

use std::cell::Cell;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::task::{Context, Poll};

use bytes::BufMut;
use netlink_sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};

thread_local! {
    /// What the next [`GivenSocket`] of this thread is made of.
    pub(super) static GIVEN: Cell<Option<OwnedFd>> = const { Cell::new(None) };
}

/// The socket that was given.
pub(super) struct GivenSocket(TokioSocket);

impl AsyncSocket for GivenSocket {
    fn new(_protocol: isize) -> io::Result<Self> {
        let given = GIVEN.take().ok_or_else(|| io::Error::other("no socket was given"))?;
        // SAFETY: the number is of an open descriptor, which nobody else owns from here on.
        Ok(Self(unsafe { TokioSocket::from_raw_fd(given.into_raw_fd()) }))
    }

    fn socket_ref(&self) -> &Socket {
        self.0.socket_ref()
    }

    fn socket_mut(&mut self) -> &mut Socket {
        self.0.socket_mut()
    }

    fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, buf)
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], addr: &SocketAddr) -> Poll<io::Result<usize>> {
        self.0.poll_send_to(cx, buf, addr)
    }

    fn poll_recv<B: BufMut>(&self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<()>> {
        self.0.poll_recv(cx, buf)
    }

    fn poll_recv_from<B: BufMut>(&self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<SocketAddr>> {
        self.0.poll_recv_from(cx, buf)
    }

    fn poll_recv_from_full(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        self.0.poll_recv_from_full(cx)
    }
}
