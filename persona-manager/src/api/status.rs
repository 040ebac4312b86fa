//! The whole in a few numbers.

use axum::Json;
use axum::extract::State;
use persona_core::wire::api::Status;
use persona_core::wire::security::SecurityState;
use persona_core::wire::software::SoftwareState;

use crate::context::Context;
use crate::store::{AgentDetails, EdgeState};
use crate::tasks::in_force::published;

/// Who is up, who is behind, who has nothing to wear.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(context): State<Context>) -> Json<Status> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents().clone());
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: snapshot.generation(),
        event_last: snapshot.event_last,
        nodes: (0, 0),
        edges: (0, 0),
        workloads: snapshot.workloads.len() as u32,
        unassigned: Default::default(),
        behind: Vec::new(),
        rejected: Default::default(),
        alerts: 0,
        drifted: Vec::new(),
        restart: Vec::new(),
    };
    for agent in snapshot.agents.values() {
        let (count, is_up) = match &agent.details {
            AgentDetails::Node(node) => (&mut status.nodes, node.up),
            AgentDetails::Edge(edge) => (&mut status.edges, edge.state == EdgeState::Up),
        };
        count.0 += u32::from(is_up);
        count.1 += 1;
        let reported = live.get(&agent.id);
        if reported.is_none_or(|reported| reported.applied < published(&snapshot, &agent.id)) {
            status.behind.push(agent.id.to_string());
        }
        let software = reported.iter().flat_map(|reported| &reported.software);
        let drifted = software.filter(|it| matches!(it.state, SoftwareState::Drifted | SoftwareState::Failed));
        status.drifted.extend(drifted.map(|it| it.subject.clone()));
        let security = reported.iter().flat_map(|reported| &reported.security);
        let waiting = security.filter(|it| matches!(it.state, SecurityState::NeedsRestart | SecurityState::Failed));
        status.restart.extend(waiting.map(|it| it.subject.clone()));
        if let Some(rejection) = reported.and_then(|reported| reported.rejected.as_ref()) {
            status.rejected.insert(agent.id.to_string(), rejection.reason.clone());
        }
    }
    for subject in snapshot.subjects.values() {
        status.alerts += subject.alerts.len() as u32;
        if let Some(reason) = &subject.unassigned {
            status.unassigned.insert(subject.subject.to_string(), reason.clone());
        }
    }
    Json(status)
}
