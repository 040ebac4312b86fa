//! A socket on a guest's device that answers what DHCP asks there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use dhcproto::v4::Message;
use dhcproto::{Decodable, Encodable};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::JoinHandle;

use super::dhcp::{self, Offer};
use crate::netlink::Link;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// More than any message that fits a guest's device.
const MESSAGE_BYTES_MAX: usize = 9_216;

/// A running answerer. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Answerer {
    offer: Arc<Mutex<Offer>>,
    task: JoinHandle<()>,
}

impl Answerer {
    /// Answers on a device from now on.
    pub(super) fn start(link: &Link, offer: Offer) -> io::Result<Self> {
        let socket = tokio::net::UdpSocket::from_std(open(&link.name)?)?;
        let offer = Arc::new(Mutex::new(offer));
        let (device, shared) = (link.name.clone(), Arc::clone(&offer));
        let task = tokio::spawn(async move { run(&socket, &device, &shared).await });
        Ok(Self { offer, task })
    }

    /// What is offered from now on.
    pub(super) fn set(&self, offer: Offer) {
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner) = offer;
    }

    /// Whether it still listens: a device that went took its socket's use with it.
    pub(super) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn open(device: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Another server may stand on another device of this host.
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVER_PORT)).into())?;
    Ok(socket.into())
}

async fn run(socket: &tokio::net::UdpSocket, device: &str, offer: &Mutex<Offer>) {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let length = match socket.recv_from(&mut bytes).await {
            Ok((length, _)) => length,
            // The device may be down for a moment.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::EAGAIN)) => continue,
            Err(error) => return tracing::warn!(device, %error, "guests there are no longer answered"),
        };
        // What is no DHCP message is nobody's business here.
        let Ok(request) = Message::from_bytes(&bytes[..length]) else { continue };
        let offer = *offer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(answer) = dhcp::answer(&request, &offer) else { continue };
        let kind = answer.message.opts().msg_type();
        tracing::info!(device, address = %offer.address, answer = ?kind, "a guest asks for its address");
        let sent = match answer.message.to_vec() {
            Ok(bytes) => socket.send_to(&bytes, (answer.to, CLIENT_PORT)).await.map(drop),
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = sent {
            tracing::warn!(device, %error, "a guest was not answered");
        }
    }
}
