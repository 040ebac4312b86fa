//! Registration: a join token, or a key that is registered already, buys a certificate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use persona_core::ids::{EdgeName, GroupName, NodeName};
use persona_core::wire::agent::{Register, Registered, Renew, Role};
use persona_core::wire::api::Problem;
use serde_json::json;

use super::input::{Body, FromAgent, parse};
use super::labels::labels_fault;
use crate::auth::{is_same, sha256_hex};
use crate::authority::{SigningRequest, trusted_pems};
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::store::{
    AgentDetails, AgentId, AgentRecord, Draft, EdgeDetails, EdgeState, JoinTokenRecord, JoinedKeyRecord, NodeDetails,
    weight_default,
};

/// Registers a node or an edge. One whose key is registered needs no token, until a while after its certificate ended.
#[utoipa::path(post, path = "/v1/register", request_body = Register,
    responses((status = 200, body = Registered), (status = "4XX", body = Problem)))]
pub(super) async fn register(
    State(context): State<Context>,
    Body(request): Body<Register>,
) -> Result<Json<Registered>, Refusal> {
    check(&request)?;
    let signing_request = read_csr(&request.csr)?;
    let id = AgentId { role: request.role, name: request.name.clone() };
    let applicant = Applicant {
        id: id.clone(),
        public_key: signing_request.public_key(),
        lifetime_ms: context.config.certificate_lifetime_ms,
        grace_ms: context.config.certificate_grace_ms,
    };
    let live = context.live.clone();
    let expires_ms = context.store.change(move |draft| {
        let expires_ms = admit(draft, request, &applicant)?;
        // Only who was let in is noted, so that strangers cannot fill the memory; the pass that follows judges silence.
        live.note_registration(applicant.id.clone());
        Ok(expires_ms)
    });
    let expires_ms = expires_ms.await?;
    registered(&context, &id, &signing_request, expires_ms)
}

/// Gives a node or an edge a new certificate for the same key.
#[utoipa::path(post, path = "/v1/agent/renew", request_body = Renew,
    responses((status = 200, body = Registered), (status = "4XX", body = Problem)))]
pub(super) async fn renew(State(context): State<Context>, agent: FromAgent) -> Result<Json<Registered>, Refusal> {
    let FromAgent { id, body, .. } = agent;
    let request: Renew = parse(&body)?;
    let signing_request = read_csr(&request.csr)?;
    let (key, lifetime_ms) = (signing_request.public_key(), context.config.certificate_lifetime_ms);
    let who = id.clone();
    let expires_ms = context.store.change(move |draft| {
        let agent = draft.state().agents.get(&who).filter(|agent| agent.public_key == key).cloned();
        let agent = agent.ok_or_else(|| Refusal::invalid(format!("csr is by another key than that of {who}")))?;
        let certificate_expires_ms = draft.now_ms() + lifetime_ms;
        draft.put(AgentRecord { certificate_expires_ms, ..(*agent).clone() });
        Ok(certificate_expires_ms)
    });
    let expires_ms = expires_ms.await?;
    registered(&context, &id, &signing_request, expires_ms)
}

fn read_csr(pem: &str) -> Result<SigningRequest, Refusal> {
    SigningRequest::read(pem).map_err(|error| Refusal::invalid(error.to_string()))
}

fn registered(
    context: &Context,
    id: &AgentId,
    request: &SigningRequest,
    expires_ms: u64,
) -> Result<Json<Registered>, Refusal> {
    let now_ms = now_ms();
    let issued = context.authority.issue_agent(id, request, now_ms, expires_ms).map_err(Refusal::internal_from)?;
    Ok(Json(Registered {
        certificate: issued.certificate,
        expires_ms: issued.expires_ms,
        lifetime_ms: Some(issued.expires_ms.saturating_sub(now_ms)),
        roots: trusted_pems(&context.store.snapshot()),
        report_interval_ms: context.config.report_interval_ms,
    }))
}

/// Who registers, by its key, and what a certificate would be.
struct Applicant {
    id: AgentId,
    public_key: String,
    lifetime_ms: u64,
    grace_ms: u64,
}

/// Capabilities that one node may want, or an edge offer.
const CAPABILITY_COUNT_MAX: usize = 64;

fn check(request: &Register) -> Result<(), Refusal> {
    let name = match request.role {
        Role::Node => request.name.parse::<NodeName>().map(drop),
        Role::Edge => request.name.parse::<EdgeName>().map(drop),
    };
    name.map_err(|error| Refusal::invalid(error.to_string()))?;
    if let Some(fault) = labels_fault(&request.labels) {
        return Err(Refusal::invalid(fault));
    }
    if request.capabilities.len() > CAPABILITY_COUNT_MAX {
        let count = request.capabilities.len();
        return Err(Refusal::invalid(format!(
            "capabilities has {count} entries: at most {CAPABILITY_COUNT_MAX} are taken"
        )));
    }
    let address = request.address;
    if !is_one_host(address) {
        return Err(Refusal::invalid(format!("address {address} is not one host's: send the underlay address")));
    }
    match (request.role, &request.group, &request.capacity) {
        (Role::Edge, None, _) => Err(Refusal::invalid("group is missing: an edge belongs to a group")),
        (Role::Node, Some(_), _) => Err(Refusal::invalid("group is for edges: leave it out")),
        (Role::Node, _, Some(_)) => Err(Refusal::invalid("capacity is for edges: leave it out")),
        _ => Ok(()),
    }
}

/// Whether an address can be a tunnel's end.
fn is_one_host(address: IpAddr) -> bool {
    let is_link_wide = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        // A link-local address means something else on every link.
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(address.is_unspecified() || address.is_multicast() || is_link_wide)
}

fn admit(draft: &mut Draft, request: Register, applicant: &Applicant) -> Result<u64, Refusal> {
    let id = &applicant.id;
    let before = draft.state().agents.get(id).cloned();
    check_revocation(draft, applicant)?;
    let redeemed = request.token.as_deref().map(|token| redeem(draft, token, applicant)).transpose()?;
    let bound_labels = match (&redeemed, &before) {
        // What people bound since stays when the same key comes with its token again.
        (Some((_, Use::Again)), Some(before)) if before.public_key == applicant.public_key => {
            before.bound_labels.clone()
        }
        (Some((token, _)), _) => token.labels.clone(),
        (None, _) => check_known(before.as_deref(), applicant, draft.now_ms())?,
    };
    // A token that is made for this very name puts a new key in the place of one that was revoked.
    let is_for_name = redeemed.is_some_and(|(token, _)| token.name.is_some());
    if let Some(before) = &before
        && before.public_key != applicant.public_key
        && !(is_for_name && draft.state().revocations.contains_key(&before.public_key))
    {
        return Err(Refusal::conflict(format!(
            "{id} is registered with another key: give this one another name, or bring back the key of {id}"
        )));
    }
    check_address(draft, id, request.address)?;
    let details = details_of(draft, before.as_deref(), &request)?;
    let (name, message) = match &before {
        None => ("registered", format!("{id} registered at {}", request.address)),
        Some(_) => ("registered-again", format!("{id} registered again at {}", request.address)),
    };
    let shown = json!({ "address": request.address, "group": request.group, "version": request.version,
        "capabilities": request.capabilities });
    draft.event(&format!("agent.{name}"), id, id, message, shown);
    let certificate_expires_ms = draft.now_ms() + applicant.lifetime_ms;
    draft.put(AgentRecord {
        id: id.clone(),
        public_key: applicant.public_key.clone(),
        registration_count: before.as_ref().map_or(0, |before| before.registration_count) + 1,
        certificate_expires_ms,
        tunnel: before.as_ref().and_then(|before| before.tunnel.clone()),
        certificate_issuer: before.and_then(|before| before.certificate_issuer.clone()),
        address: request.address,
        capabilities: request.capabilities,
        labels: request.labels,
        bound_labels,
        version: request.version,
        details,
    });
    Ok(certificate_expires_ms)
}

fn check_revocation(draft: &Draft, applicant: &Applicant) -> Result<(), Refusal> {
    let Some(revocation) = draft.state().revocations.get(&applicant.public_key) else { return Ok(()) };
    let detail = format!(
        "this key was revoked when it was that of {}: remove the role's state directory, so that it makes a new key, and join with a token for the name {}",
        revocation.agent, applicant.id.name
    );
    Err(Refusal::new(Kind::Forbidden, detail))
}

/// The labels of one who is registered with this key, and was so lately.
fn check_known(
    before: Option<&AgentRecord>,
    applicant: &Applicant,
    now_ms: u64,
) -> Result<BTreeMap<String, String>, Refusal> {
    let id = &applicant.id;
    let forbidden = |detail: String| Err(Refusal::new(Kind::Forbidden, detail));
    match before {
        None => forbidden(format!("{id} is not registered: join with a token, POST /v1/join-tokens makes one")),
        Some(before) if before.public_key != applicant.public_key => {
            forbidden(format!("{id} is registered with another key: join with a token under another name"))
        }
        Some(before) if before.certificate_expires_ms.saturating_add(applicant.grace_ms) <= now_ms => {
            forbidden(format!("the certificate of {id} ended too long ago: join again with a token"))
        }
        Some(before) => Ok(before.bound_labels.clone()),
    }
}

/// How a key comes with a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    First,
    Again,
}

/// Checks the join token and notes the key. The same key may redeem it again as long as it lives.
fn redeem(draft: &mut Draft, token: &str, applicant: &Applicant) -> Result<(Arc<JoinTokenRecord>, Use), Refusal> {
    let id = &applicant.id;
    let forbidden = |detail: String| Err(Refusal::new(Kind::Forbidden, detail));
    let token_id = token.split('.').next().unwrap_or_default();
    let hash = sha256_hex(token.as_bytes());
    let known = draft.state().tokens.get(token_id).filter(|token| is_same(token.hash.as_bytes(), hash.as_bytes()));
    let Some(token) = known.cloned() else {
        return forbidden("the join token is not known: make one with POST /v1/join-tokens".to_owned());
    };
    if token.expires_ms <= draft.now_ms() {
        return forbidden(format!("join token {token_id} has expired: make a new one"));
    }
    if token.role != id.role {
        return forbidden(format!("join token {token_id} is not for {id}: it is for the other role"));
    }
    if token.name.as_ref().is_some_and(|name| *name != id.name) {
        let name = token.name.as_deref().unwrap_or_default();
        return forbidden(format!("join token {token_id} is for the name {name:?} only, not for {id}"));
    }
    if draft.state().has_joined(&token, &applicant.public_key) {
        return Ok((token, Use::Again));
    }
    if draft.state().joined_count(&token) >= token.uses as usize {
        return forbidden(format!(
            "join token {token_id} was used by {} keys, as often as it may: make a new one",
            token.uses
        ));
    }
    draft.put(JoinedKeyRecord { token: token.id.clone(), public_key: applicant.public_key.clone() });
    Ok((token, Use::First))
}

fn check_address(draft: &Draft, id: &AgentId, address: IpAddr) -> Result<(), Refusal> {
    let other = draft.state().agents_at(address).find(|agent| agent.id != *id);
    match other {
        None => Ok(()),
        Some(other) => Err(Refusal::conflict(format!(
            "address {address} belongs to {}: give {id} an underlay address of its own",
            other.id
        ))),
    }
}

fn details_of(draft: &mut Draft, before: Option<&AgentRecord>, request: &Register) -> Result<AgentDetails, Refusal> {
    let Some(group) = request.group.clone() else {
        let node = before.and_then(|before| before.node()).cloned().unwrap_or_default();
        return Ok(AgentDetails::Node(NodeDetails { up: false, ..node }));
    };
    let capacity = request.capacity;
    match before.and_then(|before| before.edge()) {
        Some(edge) => {
            check_group(draft, request, &edge.group, &group)?;
            Ok(AgentDetails::Edge(EdgeDetails { group, capacity, is_leaving: false, ..edge.clone() }))
        }
        None => {
            let number = draft.next_edge_number().map_err(|error| Refusal::conflict(error.to_string()))?;
            let reason = "it has not reported yet".to_owned();
            Ok(AgentDetails::Edge(EdgeDetails {
                number,
                group,
                capacity,
                state: EdgeState::New,
                reason,
                weight: weight_default(),
                draining: false,
                maintenance: None,
                is_leaving: false,
                hold: Default::default(),
                flags: Vec::new(),
                is_lifeline: false,
                is_degraded: false,
                content_rtt_us: Default::default(),
            }))
        }
    }
}

/// An edge may change its group only while the old one has no lease that it may still carry.
fn check_group(draft: &Draft, request: &Register, old: &GroupName, new: &GroupName) -> Result<(), Refusal> {
    let held = draft.state().leases.values().filter(|lease| lease.group == *old).count();
    if old == new || held == 0 {
        return Ok(());
    }
    Err(Refusal::conflict(format!(
        "edge {} is in group {old}, which has {held} leases: register under another name to join group {new}",
        request.name
    )))
}
