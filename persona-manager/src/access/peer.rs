//! The other end of a connection, as the listener knows it; handlers find it in the request's extensions.

use std::fmt;
use std::net::SocketAddr;

use crate::authority::AgentCertificate;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// From where it came.
    pub origin: Origin,
    /// Its client certificate, verified, if it is one of a node or an edge.
    pub certificate: Option<AgentCertificate>,
    /// Whether its client certificate, verified, is another manager's: what that says of whom it passes on is so.
    pub is_manager: bool,
}

/// From where a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Over the network.
    Network(SocketAddr),
    /// Over the manager's own socket, by a process of this user.
    Socket {
        /// The user id, as the kernel says.
        uid: u32,
    },
}

/// Beside an answer: whoever asked has shown a credential that is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown;

impl Origin {
    /// As events keep it. User ids are in the actor already.
    pub(crate) fn source(self) -> String {
        match self {
            Self::Network(address) => address.ip().to_canonical().to_string(),
            Self::Socket { .. } => "socket".to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => write!(formatter, "{}", address.ip()),
            Self::Socket { uid } => write!(formatter, "socket, uid {uid}"),
        }
    }
}
