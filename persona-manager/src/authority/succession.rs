//! One root takes over from another, and nobody is cut off meanwhile.
//!
//! The new root signs from the first moment. Whoever trusts only the one before gets to it by a certificate of the same
//! key that the one before signed (RFC 4949, "cross-certificate"); managers show both. Nodes and edges see by a digest
//! that roots have changed, and renew. Once all have, the one before can be retired.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persona_core::wire::api::{Retire, Succession};
use rcgen::SigningKey as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::{Authority, AuthorityError, Root, keys, signing_record, trusted};
use crate::error::{Kind, Refusal};
use crate::store::{Draft, Records, RootRecord, RootState, SealedKey, Snapshot};

/// A root that is about to take over.
pub(crate) struct Successor {
    record: RootRecord,
    root: Root,
}

impl Authority {
    /// Makes the root that shall sign next; its key is on this manager's disk when this returns, or sealed in its record.
    pub(crate) fn make_successor(&self, share_key: bool, now_ms: u64) -> Result<Successor, AuthorityError> {
        let (root, before) = (Root::make(now_ms)?, self.signing());
        let stored_key = self.vault.keep(&root)?;
        let mut record = RootRecord { stored_key, ..RootRecord::new(&root, now_ms, RootState::Signing) };
        record.cross = Some(root.cross_signed_by(&before, now_ms)?);
        // Whoever has the sealing keys opens it by them; the root before may be known to others.
        if share_key && record.stored_key.is_none() {
            let text = keys::seal(&root, &before)?;
            record.sealed_key = Some(SealedKey { by: before.id.clone(), text });
        }
        Ok(Successor { record, root })
    }
}

/// Puts a new root in the place of the one that signs.
pub(crate) fn succeed(draft: &mut Draft, successor: Successor, reason: &str) -> Result<(), Refusal> {
    let Successor { record, root } = successor;
    let before = followed_by_next(draft.state())?.clone();
    if record.cross.as_ref().is_some_and(|cross| cross.by != before.id) {
        return Err(Refusal::conflict("another root has begun to sign meanwhile: look at it, and ask again"));
    }
    let message = format!("root {} signs from now on, {} stays trusted until it is retired", record.id, before.id);
    let details = json!({ "reason": reason, "before": before.id, "after": record.id,
        "keyShared": record.sealed_key.is_some(), "sealedWith": record.stored_key.as_ref().map(|key| &key.by) });
    draft.event("root.rotated", format!("root/{}", record.id), draft.actor(), message, details);
    let succession = root.succeeds(&before.id, draft.state().event_last).map_err(Refusal::internal_from)?;
    draft.put(RootRecord { state: RootState::Trusted, succession: Some(succession), ..before });
    draft.put(record);
    Ok(())
}

/// The root that the next one follows; there is none while a rotation is under way.
pub(crate) fn followed_by_next(snapshot: &Snapshot) -> Result<&RootRecord, Refusal> {
    if let Some(old) = trusted(&snapshot.roots).find(|root| root.state == RootState::Trusted) {
        return Err(Refusal::conflict(format!(
            "a rotation is under way: retire root {} first (persona-ctl authority retire)",
            old.id
        )));
    }
    signing_record(snapshot).map_err(Refusal::internal_from)
}

/// Takes a root out of trust.
pub(crate) fn retire(draft: &mut Draft, id: &str, request: &Retire, grace_ms: u64) -> Result<(), Refusal> {
    let Some(record) = draft.state().roots.get(id).cloned() else {
        return Err(Refusal::not_found(format!("there is no root {id}; GET /v1/authority lists them")));
    };
    match record.state {
        RootState::Signing => {
            return Err(Refusal::conflict("this root signs: rotate first, so that another does"));
        }
        RootState::Retired => return Ok(()),
        RootState::Trusted => {}
    }
    let needing = [
        agents_under(draft.state(), &record, draft.now_ms().saturating_sub(grace_ms)),
        tokens_under(draft.state(), id, draft.now_ms()),
    ]
    .concat();
    if !needing.is_empty() && !request.force {
        let named: Vec<&str> = needing.iter().take(5).map(String::as_str).collect();
        let others = needing.len() - named.len();
        let others = if others == 0 { String::new() } else { format!(" and {others} more") };
        return Err(Refusal::new(
            Kind::InUse,
            format!(
                "{}{others} would be cut off: wait until they have renewed, or retire it by force",
                named.join(", ")
            ),
        ));
    }
    let details = json!({ "reason": request.reason, "forced": !needing.is_empty(), "cutOff": needing });
    draft.event("root.retired", format!("root/{id}"), draft.actor(), format!("root {id} is trusted no more"), details);
    // Whoever has the newer root's key by now needs it sealed no longer.
    let sealed: Vec<RootRecord> =
        draft.state().roots.values().filter(|it| it.sealed_key.is_some()).map(|it| (**it).clone()).collect();
    for newer in sealed {
        draft.put(RootRecord { sealed_key: None, cross: None, ..newer });
    }
    draft.put(RootRecord { state: RootState::Retired, ..(*record).clone() });
    Ok(())
}

/// Nodes and edges that were last seen with a certificate under this root, or with none that is known; those whose
/// certificate ended before `ended_ms` cannot come back anyway.
pub(crate) fn agents_under(snapshot: &Snapshot, root: &RootRecord, ended_ms: u64) -> Vec<String> {
    let Some(key_id) = key_id_of(&root.certificate) else { return Vec::new() };
    let is_under = |shown: &Option<String>| shown.as_ref().is_none_or(|shown| *shown == key_id);
    let agents = snapshot.agents.values().filter(|agent| is_under(&agent.certificate_issuer));
    agents.filter(|agent| agent.certificate_expires_ms > ended_ms).map(|agent| agent.id.to_string()).collect()
}

/// Whether certificates are let in whose signing key has this identifier, in hex.
pub(crate) fn is_trusted_issuer(roots: &Records<RootRecord>, issuer: &str) -> bool {
    trusted(roots).any(|root| key_id_of(&root.certificate).is_none_or(|key_id| key_id == issuer))
}

/// Join tokens that pin this root and may still be used.
pub(crate) fn tokens_under(snapshot: &Snapshot, root: &str, now_ms: u64) -> Vec<String> {
    let live = snapshot
        .tokens
        .values()
        .filter(|token| token.expires_ms > now_ms && snapshot.joined_count(token) < token.uses as usize);
    live.filter(|token| token.root.as_deref() == Some(root)).map(|token| format!("join-token/{}", token.id)).collect()
}

/// The identifier of a root's key, by which certificates under it name it, in hex.
fn key_id_of(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    super::certificate::subject_key_id(&der)
}

impl Root {
    /// What this root says of the one that it follows.
    pub(super) fn succeeds(&self, before: &str, until_event: u64) -> Result<Succession, rcgen::Error> {
        let signature = self.issuer.key().sign(&Succession::statement(before, until_event))?;
        Ok(Succession { until_event, by: self.id.clone(), signature: STANDARD.encode(signature) })
    }
}
