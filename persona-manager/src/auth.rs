//! Secrets, and who a node or an edge is by its client certificate.
//!
//! Secrets are 256 random bits; only their SHA-256 is stored. A certificate alone is not enough: its key must be the one
//! that is registered now, so that whoever registered anew or was deleted is out at once.

use persona_core::hex;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::authority::AgentCertificate;
use crate::error::{Kind, Refusal};
use crate::store::{AgentId, Snapshot};

/// `N` random bytes in hex.
pub(crate) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    hex::encode(&bytes)
}

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// Compares without telling by time where two values differ.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    one.len() == other.len() && difference == 0
}

/// Which node or edge a client certificate, verified by TLS, stands for now.
pub(crate) fn agent_of(snapshot: &Snapshot, certificate: &AgentCertificate, now_ms: u64) -> Result<AgentId, Refusal> {
    let id = &certificate.id;
    let refuse = |why: String| Err(Refusal::new(Kind::Unauthenticated, why));
    if let Some(revocation) = snapshot.revocations.get(&certificate.public_key) {
        return refuse(format!("the key of {} was revoked: make a new key and join again", revocation.agent));
    }
    let Some(agent) = snapshot.agents.get(id) else {
        return refuse(format!("{id} is not registered: register again"));
    };
    if agent.public_key != certificate.public_key {
        return refuse(format!("{id} is registered with another key: give this one another name"));
    }
    if certificate.expires_ms <= now_ms {
        return refuse(format!("the certificate of {id} has ended: register again"));
    }
    Ok(id.clone())
}

/// The refusal of a request that needs a client certificate and came without one.
pub(crate) fn certificate_missing() -> Refusal {
    let detail = "this is for nodes and edges: send a client certificate over TLS, which POST /v1/register gives";
    Refusal::new(Kind::Unauthenticated, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_only_if_all_bytes_are() {
        for (one, other, same) in [("", "", true), ("ab", "ab", true), ("ab", "ac", false), ("ab", "a", false)] {
            assert_eq!(is_same(one.as_bytes(), other.as_bytes()), same, "{one} {other}");
        }
    }
}
