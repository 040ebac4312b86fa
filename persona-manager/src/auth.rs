//! Secrets and proofs: join tokens, bearers, and the signature that ties a bearer to its key.
//!
//! Secrets are 256 random bits; only their SHA-256 is stored. A proof is an Ed25519 signature over method, path, time
//! and body (see `persona_core::wire::agent`), so that a bearer alone is worth nothing.

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persona_core::wire::agent::{PROOF_AGE_MS_MAX, PROOF_HEADER, Role, proof_text};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::error::{Kind, Refusal};
use crate::store::{AgentId, AgentRecord, Snapshot};

/// A request as it was signed.
pub(crate) struct Signed<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path with the query.
    pub path_and_query: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
}

/// `N` random bytes in hex.
pub(crate) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    hex(&bytes)
}

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// A new bearer for an agent: its id and a secret.
pub(crate) fn new_bearer(id: &AgentId) -> String {
    format!("{id}.{}", random_hex::<32>())
}

/// Reads an Ed25519 public key: 32 bytes in standard Base64.
pub(crate) fn parse_public_key(text: &str) -> Result<Vec<u8>, Refusal> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == 32);
    bytes.ok_or_else(|| Refusal::invalid("publicKey is not valid: send an Ed25519 key, 32 bytes in standard Base64"))
}

/// Finds out which agent sent a request, from its bearer and its proof.
pub(crate) fn authenticate(snapshot: &Snapshot, request: &Signed<'_>, now_ms: u64) -> Result<AgentId, Refusal> {
    let unknown = || unauthenticated("the bearer is not known: register again");
    let bearer = header_text(request.headers, header::AUTHORIZATION.as_str())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| unauthenticated("send `Authorization: Bearer` with what registration answered"))?;
    let id = agent_of(bearer).ok_or_else(unknown)?;
    let agent = snapshot.agents.get(&id).ok_or_else(unknown)?;
    if !is_same(sha256_hex(bearer.as_bytes()).as_bytes(), agent.bearer_hash.as_bytes()) {
        return Err(unknown());
    }
    check_proof(agent, request, now_ms)?;
    Ok(id)
}

/// Compares without telling by time where two values differ.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
    one.len() == other.len() && difference == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unauthenticated(detail: impl Into<String>) -> Refusal {
    Refusal::new(Kind::Unauthenticated, detail)
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn agent_of(bearer: &str) -> Option<AgentId> {
    let (id, _) = bearer.rsplit_once('.')?;
    match id.split_once('/')? {
        ("node", name) => Some(AgentId { role: Role::Node, name: name.to_owned() }),
        ("edge", name) => Some(AgentId { role: Role::Edge, name: name.to_owned() }),
        _ => None,
    }
}

fn check_proof(agent: &AgentRecord, request: &Signed<'_>, now_ms: u64) -> Result<(), Refusal> {
    let (time_ms, signature) = header_text(request.headers, PROOF_HEADER).and_then(parse_proof).ok_or_else(|| {
        unauthenticated(format!(
            "send `{PROOF_HEADER}: t=MILLISECONDS,s=BASE64` with a signature of the registered key"
        ))
    })?;
    if now_ms.abs_diff(time_ms) > PROOF_AGE_MS_MAX {
        return Err(unauthenticated(format!(
            "the proof is {} ms away from the manager's clock, at most {PROOF_AGE_MS_MAX} are accepted: set the clock of {}",
            now_ms.abs_diff(time_ms),
            agent.id
        )));
    }
    let text = proof_text(request.method.as_str(), request.path_and_query, time_ms, &sha256_hex(request.body));
    let key = parse_public_key(&agent.public_key)?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(text.as_bytes(), &signature)
        .map_err(|_| unauthenticated("the proof's signature is not by the registered key over this request"))
}

fn parse_proof(value: &str) -> Option<(u64, Vec<u8>)> {
    let (time, signature) = value.strip_prefix("t=")?.split_once(",s=")?;
    Some((time.parse().ok()?, STANDARD.decode(signature).ok()?))
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

    #[test]
    fn a_bearer_names_its_agent() {
        let id = AgentId { role: Role::Edge, name: "fra.1".to_owned() };
        assert_eq!(agent_of(&new_bearer(&id)), Some(id));
        assert_eq!(agent_of("person/x.00"), None);
    }

    #[test]
    fn proofs_are_read() {
        assert_eq!(parse_proof("t=12,s=AAE="), Some((12, vec![0, 1])));
        for bad in ["", "t=,s=", "t=1", "s=AAE=,t=1", "t=1,s=?"] {
            assert_eq!(parse_proof(bad), None, "{bad}");
        }
    }
}
