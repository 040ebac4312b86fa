//! Whom a request comes from that another manager passed on, in a header that counts only beside a manager's certificate.

use axum::http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::access::{Origin, Peer};
use crate::authority::AgentCertificate;

/// A user id that is nobody's (`chown` takes it for "leave it"), for local users who are no administrators.
const NOBODY_UID: u32 = u32::MAX;

/// The other end of a connection, as the manager knows it that has the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PassedOn {
    from: From,
    certificate: Option<AgentCertificate>,
}

/// User ids mean something on one host only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum From {
    Network(std::net::SocketAddr),
    Root,
    OwnUser,
    OtherUser,
}

impl PassedOn {
    /// What to tell of a peer of this manager, which runs as `own_uid`.
    pub(crate) fn of(peer: &Peer, own_uid: u32) -> Self {
        let from = match peer.origin {
            Origin::Network(address) => From::Network(address),
            Origin::Socket { uid: 0 } => From::Root,
            Origin::Socket { uid } if uid == own_uid => From::OwnUser,
            Origin::Socket { .. } => From::OtherUser,
        };
        Self { from, certificate: peer.certificate.clone() }
    }

    /// The peer as if it were one of this manager, which runs as `own_uid`.
    pub(crate) fn into_peer(self, own_uid: u32) -> Peer {
        let origin = match self.from {
            From::Network(address) => Origin::Network(address),
            From::Root => Origin::Socket { uid: 0 },
            From::OwnUser => Origin::Socket { uid: own_uid },
            From::OtherUser => Origin::Socket { uid: NOBODY_UID },
        };
        Peer { origin, certificate: self.certificate, is_manager: false }
    }

    /// As a header. None: it holds what no header can.
    pub(crate) fn to_header(&self) -> Option<HeaderValue> {
        let text = serde_json::to_string(self).expect("it has string keys only");
        HeaderValue::from_str(&text).ok()
    }

    /// Reads such a header.
    pub(crate) fn read(value: &HeaderValue) -> Option<Self> {
        serde_json::from_slice(value.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AgentId;

    #[test]
    fn a_peer_is_the_same_at_the_other_manager_whatever_users_are_called_there() {
        let address = "10.0.0.1:7".parse().unwrap();
        let cases = [
            (Origin::Network(address), Origin::Network(address)),
            (Origin::Socket { uid: 0 }, Origin::Socket { uid: 0 }),
            (Origin::Socket { uid: 7 }, Origin::Socket { uid: 8 }),
            (Origin::Socket { uid: 8 }, Origin::Socket { uid: NOBODY_UID }),
        ];
        let certificate =
            AgentCertificate { id: AgentId::edge("f1"), public_key: "AA==".to_owned(), expires_ms: 9, issuer: None };
        for (here, there) in cases {
            let certificate = matches!(here, Origin::Network(_)).then(|| certificate.clone());
            let peer = Peer { origin: here, certificate: certificate.clone(), is_manager: false };
            let header = PassedOn::of(&peer, 7).to_header().unwrap();
            let peer = PassedOn::read(&header).unwrap().into_peer(8);
            assert_eq!((peer.origin, peer.certificate, peer.is_manager), (there, certificate, false), "{here}");
        }
        for bad in ["", "1", r#"{"from":"root"}x"#, r#"{"from":"admin","certificate":null}"#] {
            assert_eq!(PassedOn::read(&HeaderValue::from_static(bad)), None, "{bad}");
        }
    }
}
