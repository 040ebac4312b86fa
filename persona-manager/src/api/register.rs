//! Registration: a join token buys a bearer that is bound to the sender's key.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use persona_core::ids::{EdgeName, GroupName, NodeName};
use persona_core::wire::agent::{Register, Registered, Role};
use persona_core::wire::api::Problem;
use serde_json::json;

use super::input::Body;
use crate::auth::{is_same, new_bearer, parse_public_key, sha256_hex};
use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::store::{
    AgentDetails, AgentId, AgentRecord, Draft, EdgeDetails, EdgeState, JoinTokenRecord, NodeDetails, weight_default,
};

/// Registers a node or an edge, or gives one that is registered a new bearer.
#[utoipa::path(post, path = "/v1/register", request_body = Register,
    responses((status = 200, body = Registered), (status = "4XX", body = Problem)))]
pub(super) async fn register(
    State(context): State<Context>,
    Body(request): Body<Register>,
) -> Result<Json<Registered>, Refusal> {
    check(&request)?;
    context.live.note_registration(AgentId { role: request.role, name: request.name.clone() });
    let report_interval_ms = context.config.report_interval_ms;
    let bearer = context.store.change(move |draft| admit(draft, request)).await?;
    Ok(Json(Registered { bearer, report_interval_ms }))
}

fn check(request: &Register) -> Result<(), Refusal> {
    parse_public_key(&request.public_key)?;
    let name = match request.role {
        Role::Node => request.name.parse::<NodeName>().map(drop),
        Role::Edge => request.name.parse::<EdgeName>().map(drop),
    };
    name.map_err(|error| Refusal::invalid(error.to_string()))?;
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

fn admit(draft: &mut Draft, request: Register) -> Result<String, Refusal> {
    let id = AgentId { role: request.role, name: request.name.clone() };
    redeem(draft, &request, &id)?;
    let before = draft.state().agents.get(&id).cloned();
    if let Some(before) = &before
        && before.public_key != request.public_key
    {
        return Err(Refusal::conflict(format!(
            "{id} is registered with another key: give this one another name, or bring back the key of {id}"
        )));
    }
    check_address(draft, &id, request.address)?;
    let bearer = new_bearer(&id);
    let details = details_of(draft, before.as_deref(), &request)?;
    let (name, message) = match &before {
        None => ("registered", format!("{id} registered at {}", request.address)),
        Some(_) => ("registered-again", format!("{id} registered again at {}", request.address)),
    };
    let shown = json!({ "address": request.address, "group": request.group, "version": request.version,
        "capabilities": request.capabilities });
    draft.event(&format!("agent.{name}"), &id, &id, message, shown);
    draft.put(AgentRecord {
        id,
        public_key: request.public_key,
        bearer_hash: sha256_hex(bearer.as_bytes()),
        address: request.address,
        capabilities: request.capabilities,
        labels: request.labels,
        version: request.version,
        details,
    });
    Ok(bearer)
}

/// Checks the join token and notes the key. The same key may redeem it again as long as it lives.
fn redeem(draft: &mut Draft, request: &Register, id: &AgentId) -> Result<(), Refusal> {
    let forbidden = |detail: String| Err(Refusal::new(Kind::Forbidden, detail));
    let token_id = request.token.split('.').next().unwrap_or_default();
    let hash = sha256_hex(request.token.as_bytes());
    let known = draft.state().tokens.get(token_id).filter(|token| is_same(token.hash.as_bytes(), hash.as_bytes()));
    let Some(token) = known.cloned() else {
        return forbidden("the join token is not known: make one with POST /v1/join-tokens".to_owned());
    };
    if token.expires_ms <= draft.now_ms() {
        return forbidden(format!("join token {token_id} has expired: make a new one"));
    }
    if token.role != request.role {
        return forbidden(format!("join token {token_id} is not for {id}: it is for the other role"));
    }
    if token.name.as_ref().is_some_and(|name| *name != request.name) {
        let name = token.name.as_deref().unwrap_or_default();
        return forbidden(format!("join token {token_id} is for the name {name:?} only, not for {id}"));
    }
    if token.keys.contains(&request.public_key) {
        return Ok(());
    }
    if token.keys.len() >= token.uses as usize {
        return forbidden(format!(
            "join token {token_id} was used by {} keys, as often as it may: make a new one",
            token.uses
        ));
    }
    let mut keys = token.keys.clone();
    keys.push(request.public_key.clone());
    draft.put(JoinTokenRecord { keys, ..(*token).clone() });
    Ok(())
}

fn check_address(draft: &Draft, id: &AgentId, address: IpAddr) -> Result<(), Refusal> {
    let other = draft.state().agents.values().find(|agent| agent.address == address && agent.id != *id);
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
        let draining = before.and_then(|before| before.node()).is_some_and(|node| node.draining);
        return Ok(AgentDetails::Node(NodeDetails { up: false, draining }));
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
                is_leaving: false,
                hold: Default::default(),
                flags: Vec::new(),
                is_lifeline: false,
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
