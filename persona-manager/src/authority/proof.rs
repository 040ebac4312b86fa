//! Proofs of what was published to whom (HMAC-SHA-256 under a key by HKDF from a root's): agents keep them, and give them back
//! when the store has gone back behind them.

use persona_core::ids::Generation;
use persona_core::wire::proof::StateProof;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac;

use super::{Authority, Root};
use crate::store::{AgentId, Snapshot};

/// What the key is made for; nothing else is ever done with what comes of it.
const PROOF_SALT: &[u8] = b"persona state proof 1";

impl Authority {
    /// Says that a state was published to an agent.
    pub(crate) fn prove(&self, id: &AgentId, generation: Generation, digest: &str) -> StateProof {
        let signing = self.signing();
        let mac = hmac::sign(&signing.proof_key(), &StateProof::statement(&id.to_string(), generation, digest));
        let mac = persona_core::hex::encode(mac.as_ref());
        StateProof { generation, digest: digest.to_owned(), root: signing.id.clone(), mac }
    }

    /// Whether a manager of this fleet has published that state to that agent.
    pub(crate) fn is_proven(&self, id: &AgentId, proof: &StateProof, snapshot: &Snapshot) -> bool {
        let signing = self.signing();
        if proof.root == signing.id {
            return signing.has_proven(id, proof);
        }
        let root = snapshot.roots.get(&proof.root).and_then(|record| self.vault.read(record).ok());
        root.is_some_and(|root| root.has_proven(id, proof))
    }
}

impl Root {
    fn proof_key(&self) -> hmac::Key {
        let secret = Salt::new(HKDF_SHA256, PROOF_SALT).extract(&self.key_der());
        let key = secret.expand(&[b"mac"], hmac::HMAC_SHA256).expect("one block of output is within HKDF's bounds");
        hmac::Key::from(key)
    }

    fn has_proven(&self, id: &AgentId, proof: &StateProof) -> bool {
        let Some(mac) = persona_core::hex::decode_32(&proof.mac) else { return false };
        let statement = StateProof::statement(&id.to_string(), proof.generation, &proof.digest);
        hmac::verify(&self.proof_key(), &statement, &mac).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use persona_core::wire::agent::Role;

    use super::*;

    #[test]
    fn a_proof_is_good_for_its_agent_its_state_and_under_its_root_only() {
        let (root, other) = (Root::make(1_790_000_000_000).unwrap(), Root::make(1_790_000_000_000).unwrap());
        let [n1, n2] = ["n1", "n2"].map(|name| AgentId { role: Role::Node, name: name.to_owned() });
        let (generation, digest) = (Generation::new(1, 7), "ab".to_owned());
        let mac = hmac::sign(&root.proof_key(), &StateProof::statement("node/n1", generation, &digest));
        let mac = persona_core::hex::encode(mac.as_ref());
        let proof = StateProof { generation, digest, root: root.id.clone(), mac };
        assert!(root.has_proven(&n1, &proof));
        assert!(!root.has_proven(&n2, &proof) && !other.has_proven(&n1, &proof));
        assert!(!root.has_proven(&AgentId::edge("n1"), &proof));
        for forged in [
            StateProof { generation: Generation::new(1, 8), ..proof.clone() },
            StateProof { digest: "ac".to_owned(), ..proof.clone() },
            StateProof { mac: "00".repeat(32), ..proof.clone() },
            StateProof { mac: String::new(), ..proof },
        ] {
            assert!(!root.has_proven(&n1, &forged), "{forged:?}");
        }
    }
}
