//! What nodes and edges ask and tell: the watch stream of their desired state, and reports.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use persona_core::content::CONTENT_COUNT_MAX;
use persona_core::ids::{NodeName, SubjectId};
use persona_core::wire::agent::{
    AgentEvent, HELD_ITEM_COUNT_MAX, REPORT_INTERVAL_HEADER, ROOTS_HEADER, Rejection, Report, ReportTaken, Role,
    WorkloadKind, WorkloadReport,
};
use persona_core::wire::api::Problem;
use persona_core::wire::contents::Contents;
use persona_core::wire::desired::{DesiredState, DigestKind, Frame, TunnelEnd};
use persona_core::wire::proof::StateProof;
use persona_core::wire::signals::{SAMPLE_BATCH_COUNT_MAX, SampleBatch};
use persona_core::wire::tunnel::{FAR_END_COUNT_MAX, TunnelReport};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::NDJSON;
use super::input::{FromAgent, Params, parse};
use super::own::{LeftOut, claimed_key, keep_own};
use super::pace::pace;
use crate::authority::{Authority, roots_digest};
use crate::clock::now_ms;
use crate::contents;
use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::live::Session;
use crate::metrics::Watching;
use crate::overrides::check_exists;
use crate::store::{AgentId, AgentRecord, Draft, Snapshot, Watcher, WorkloadRecord};
use crate::tasks::kept::workloads_on;
use crate::tasks::recovery::{self, Held};

/// A stream on which nothing changed says so this often.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(5);

/// Events that one report may carry.
const EVENT_COUNT_MAX: usize = 256;

/// Signals of which one batch of samples may tell.
const SIGNAL_COUNT_MAX: usize = 96;

/// Paths to edge groups that a node may ask with, and the longest cause, bytes.
const PATH_COUNT_MAX: usize = 4_096;
const CAUSE_LENGTH_MAX: usize = 16_384;

/// Workloads that one node may report.
const WORKLOAD_COUNT_MAX: usize = 4_096;

/// How the sender's stream is to be.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
pub(super) struct WatchQuery {
    /// The kind of digest that it understands. Absent: one over all of the state.
    #[serde(default)]
    #[param(inline)]
    digest: DigestKind,
}

/// The sender's desired state as a stream of frames, a line of JSON each: a snapshot, then deltas.
#[utoipa::path(get, path = "/v1/agent/watch", params(WatchQuery),
    responses((status = 200, body = Frame, content_type = "application/x-ndjson"), (status = "4XX", body = Problem)))]
pub(super) async fn watch(
    State(context): State<Context>,
    Params(query): Params<WatchQuery>,
    agent: FromAgent,
) -> Response {
    // Whoever begins to wait before it looks misses nothing.
    let (watcher, snapshots) = (context.store.watchers().watch(agent.id.clone()), context.store.watch());
    let registration_count = snapshots.borrow().agents.get(&agent.id).map_or(0, |agent| agent.registration_count);
    let watching = context.metrics.watching(agent.id.role);
    let session = context.live.open_session(&agent.id);
    let start = Watch {
        id: agent.id,
        digest: query.digest,
        registration_count,
        snapshots,
        watcher,
        sent: None,
        recalled: None,
        authority: context.authority.clone(),
        stop: context.stop.clone(),
        _watching: watching,
        _session: session,
    };
    let frames = stream::unfold(start, async |mut watch| {
        let frame = watch.next_frame().await?;
        let mut line = serde_json::to_vec(&frame).expect("a frame has string keys only");
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), watch))
    });
    (NDJSON, Body::from_stream(frames)).into_response()
}

struct Watch {
    id: AgentId,
    digest: DigestKind,
    registration_count: u64,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    watcher: Watcher,
    sent: Option<Arc<DesiredState>>,
    /// The store incarnation that it was asked for, what it holds.
    recalled: Option<u32>,
    authority: Arc<Authority>,
    stop: CancellationToken,
    _watching: Watching,
    _session: Session,
}

impl Watch {
    /// The next frame. None: the manager stops, another one knows better, or the agent was deleted or registered again.
    async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let snapshot = self.snapshots.borrow().clone();
            let agent = snapshot.agents.get(&self.id)?;
            if agent.registration_count != self.registration_count {
                return None;
            }
            if is_known_elsewhere_only(&snapshot, &self.id) {
                return None;
            }
            let recall = recovery::is_awaited(&snapshot, &self.id).then_some(snapshot.incarnation);
            if let Some(incarnation) = recall.filter(|_| self.recalled != recall) {
                self.recalled = recall;
                return Some(Frame::Recall { incarnation });
            }
            if recall.is_none()
                && let Some(frame) = snapshot.desired.get(&self.id).and_then(|state| self.frame_to(state))
            {
                return Some(frame);
            }
            drop(snapshot);
            tokio::select! {
                () = self.watcher.news() => {}
                () = tokio::time::sleep(BOOKMARK_INTERVAL) => {
                    if recall.is_some() {
                        self.recalled = None;
                        continue;
                    }
                    let generation = self.sent.as_ref()?.generation;
                    return Some(Frame::Bookmark { generation });
                }
                () = self.stop.cancelled() => return None,
            }
        }
    }

    fn frame_to(&mut self, state: &Arc<DesiredState>) -> Option<Frame> {
        if self.sent.as_ref().is_some_and(|sent| sent.generation == state.generation) {
            return None;
        }
        let digest = state.digest_of(self.digest);
        let proof = self.authority.prove(&self.id, state.generation, &digest);
        let frame = match &self.sent {
            None => Frame::Snapshot { state: DesiredState { proof: Some(proof), ..(**state).clone() }, digest },
            Some(sent) => sent.delta_to(state, digest, Some(proof)),
        };
        self.sent = Some(state.clone());
        Some(frame)
    }
}

/// Whether another manager has published a state that does not come out the same here: its agent goes on to that one.
fn is_known_elsewhere_only(snapshot: &Snapshot, id: &AgentId) -> bool {
    snapshot.is_mirror
        && !snapshot.desired.is_empty()
        && snapshot.publications.contains_key(id)
        && !snapshot.desired.contains_key(id)
}

/// The sources of content that the sender, an edge, shall measure the way to.
#[utoipa::path(get, path = "/v1/agent/contents",
    responses((status = 200, body = Contents), (status = "4XX", body = Problem)))]
pub(super) async fn contents(State(context): State<Context>, agent: FromAgent) -> Json<Contents> {
    Json(contents::for_edge(&context.store.snapshot(), &agent.id))
}

/// Takes in what a node or an edge sees and did. What is not its own to say is left out, and named in the answer.
#[utoipa::path(post, path = "/v1/agent/report", request_body = Report,
    responses((status = 200, body = ReportTaken, description = "Parts of it were left out"),
        (status = 204, description = "All of it was taken"), (status = "4XX", body = Problem)))]
pub(super) async fn report(State(context): State<Context>, agent: FromAgent) -> Result<Response, Refusal> {
    let FromAgent { id, issuer, body } = agent;
    let who = id.clone();
    let mut report: Report = parse(&body)?;
    check(&id, &report)?;
    recovery::check_plausible(&context.store.snapshot(), report.applied)?;
    let mut left_out = keep_own(&context.store.snapshot(), &id, &mut report);
    leave_out_unproven(&context, &id, &mut report, &mut left_out);
    let rejection = context.live.report(&id, &report, now_ms());
    let refused = report.rejected.as_ref().map(|rejected| rejected.generation);
    context.store.published().acknowledge(&id, report.applied, refused);
    take_samples(&context, &id, &report.samples);
    note_issuer(&context, &id, issuer).await?;
    if let Some(tunnel) = &report.tunnel {
        note_tunnel(&context, &id, tunnel.end.clone(), &mut left_out).await?;
    }
    if let Some(measured) = &report.contents {
        contents::note(&context, &id, measured).await?;
    }
    let workloads = report.workloads.take().filter(|found| differs(&context.store.snapshot(), &id, found));
    let events = std::mem::take(&mut report.events);
    let held = report.holdings.take().and_then(|part| context.live.take_holdings(&id, part));
    let held = held.map(|held| Held::of(&context.authority, &context.store.snapshot(), &id, held));
    let overstepped = context.live.note_left_out(&id, left_out.count).map(|count| (count, left_out.told()));
    if rejection.is_some() || workloads.is_some() || !events.is_empty() || held.is_some() || overstepped.is_some() {
        let change = move |draft: &mut Draft| {
            if let Some(held) = held {
                recovery::take_in(draft, &id, &held);
            }
            if let Some((count, told)) = overstepped {
                let message = format!("{id} reports what is not its own, which was left out: {told}");
                draft.event("agent.overstepped", &id, "manager", message, json!({ "partCount": count }));
            }
            note(draft, &id, rejection, workloads, events)
        };
        context.store.change(change).await?;
    }
    let roots = [(HeaderName::from_static(ROOTS_HEADER), roots_digest(&context.store.snapshot()))];
    let mut answer = match left_out.count {
        0 => (StatusCode::NO_CONTENT, roots).into_response(),
        _ => (roots, Json(ReportTaken { left_out: left_out.parts })).into_response(),
    };
    if let Some(interval_ms) = pace(&context, &who) {
        answer.headers_mut().insert(HeaderName::from_static(REPORT_INTERVAL_HEADER), interval_ms.into());
    }
    Ok(answer)
}

/// A generation that this store has not published, and of which nothing shows that it ever did, counts for none: whoever could
/// make one up could have the fleet say anew what it holds.
fn leave_out_unproven(context: &Context, id: &AgentId, report: &mut Report, left_out: &mut LeftOut) {
    let snapshot = context.store.snapshot();
    let is_ahead = report.applied > snapshot.generation();
    let is_of_it = |proof: &&StateProof| proof.generation == report.applied;
    let proof = report.proof.as_ref().filter(is_of_it);
    if is_ahead && !proof.is_some_and(|proof| context.authority.is_proven(id, proof, &snapshot)) {
        let applied = std::mem::take(&mut report.applied);
        let detail = format!(
            "generation {applied} is not one that this store has published, {} is the newest; and it comes without a proof that a manager of this fleet did: after the store was put back by hand use `persona-ctl manager restore`",
            snapshot.generation()
        );
        left_out.add("applied".to_owned(), detail);
    }
}

fn check_tunnel(tunnel: &TunnelReport) -> Result<(), Refusal> {
    if tunnel.far_ends.len() > FAR_END_COUNT_MAX {
        let count = tunnel.far_ends.len();
        return Err(Refusal::invalid(format!(
            "tunnel.farEnds has {count} entries: at most {FAR_END_COUNT_MAX} are taken"
        )));
    }
    match &tunnel.end {
        Some(end) if !end.is_valid() => {
            Err(Refusal::invalid("tunnel.end is none: publicKey is 32 bytes in Base64, port is 1 to 65535"))
        }
        _ => Ok(()),
    }
}

/// Notes under which root the certificate is that an agent comes with, once for each: it has kept what came with it.
async fn note_issuer(context: &Context, id: &AgentId, issuer: Option<String>) -> Result<(), Refusal> {
    let snapshot = context.store.snapshot();
    let is_noted = |agent: &Arc<AgentRecord>| agent.certificate_issuer == issuer;
    if issuer.is_none() || snapshot.agents.get(id).is_none_or(is_noted) {
        return Ok(());
    }
    let id = id.clone();
    let note = move |draft: &mut Draft| {
        if let Some(agent) = draft.state().agents.get(&id).cloned() {
            draft.put(AgentRecord { certificate_issuer: issuer, ..(*agent).clone() });
        }
        Ok(())
    };
    context.store.change(note).await
}

/// Notes an agent's end of encrypted tunnels when it has changed; others learn of it with what is published next.
async fn note_tunnel(
    context: &Context,
    id: &AgentId,
    end: Option<TunnelEnd>,
    left_out: &mut LeftOut,
) -> Result<(), Refusal> {
    let snapshot = context.store.snapshot();
    if snapshot.agents.get(id).is_none_or(|agent| agent.tunnel == end) {
        return Ok(());
    }
    if let Some(why) = end.as_ref().and_then(|end| claimed_key(&snapshot, id, end)) {
        left_out.add("tunnel.end".to_owned(), why);
        return Ok(());
    }
    let id = id.clone();
    let note = move |draft: &mut Draft| {
        let Some(agent) = draft.state().agents.get(&id).cloned() else { return Ok(()) };
        let message = format!("{id} {}", tunnel_change(agent.tunnel.as_ref(), end.as_ref()));
        let details = json!({ "before": agent.tunnel, "after": end });
        draft.event("agent.tunnel-changed", &id, &id, message, details);
        draft.put(AgentRecord { tunnel: end, ..(*agent).clone() });
        Ok(())
    };
    context.store.change(note).await?;
    context.live.wake.notify_one();
    Ok(())
}

/// What became of an end, for an event.
fn tunnel_change(before: Option<&TunnelEnd>, after: Option<&TunnelEnd>) -> &'static str {
    match (before, after) {
        (_, None) => "has no encrypted tunnel any more",
        (None, Some(_)) => "has an encrypted tunnel",
        (Some(before), Some(after)) if before.next_key.as_ref() == Some(&after.public_key) => {
            "has taken its next key for its encrypted tunnel; the one before is worth nothing"
        }
        (Some(before), Some(after)) if before.public_key == after.public_key && after.next_key.is_some() => {
            "is about to take another key for its encrypted tunnel; both are accepted until then"
        }
        (Some(_), Some(_)) => "has another key or port for its encrypted tunnel",
    }
}

fn check(id: &AgentId, report: &Report) -> Result<(), Refusal> {
    if let Some(tunnel) = &report.tunnel {
        check_tunnel(tunnel)?;
    }
    let is_node_only = report.workloads.is_some()
        || !report.drained.is_empty()
        || !report.leases.is_empty()
        || report.limits.is_some()
        || report.software.is_some()
        || report.security.is_some()
        || !report.samples.is_empty()
        || report.underlay_mtu.is_some()
        || report.conditions.is_some();
    let is_edge_only = report.outside_alive.is_some()
        || report.owned.is_some()
        || report.announced.is_some()
        || report.contents.is_some();
    match id.role {
        Role::Edge if is_node_only => Err(Refusal::invalid(
            "workloads, drained, leases, limits, software, security, samples, underlayMtu and conditions are for nodes: leave them out",
        )),
        Role::Node if is_edge_only => {
            Err(Refusal::invalid("outsideAlive, owned, announced and contents are for edges: leave them out"))
        }
        _ if report
            .conditions
            .as_ref()
            .is_some_and(|asked| asked.paths.len() > PATH_COUNT_MAX || asked.cause.len() > CAUSE_LENGTH_MAX) =>
        {
            Err(Refusal::invalid(format!(
                "conditions has more than {PATH_COUNT_MAX} paths, or a cause of more than {CAUSE_LENGTH_MAX} bytes"
            )))
        }
        _ if report.contents.as_ref().is_some_and(|contents| contents.len() > CONTENT_COUNT_MAX) => Err(
            Refusal::invalid(format!("contents has more than {CONTENT_COUNT_MAX} entries: an edge measures no more")),
        ),
        _ if report.holdings.as_ref().is_some_and(|part| part.items.len() > HELD_ITEM_COUNT_MAX) => {
            Err(Refusal::invalid(format!("holdings has more than {HELD_ITEM_COUNT_MAX} items: send it in parts")))
        }
        _ if report.events.len() > EVENT_COUNT_MAX => Err(Refusal::invalid(format!(
            "events has {} entries: send at most {EVENT_COUNT_MAX} and the rest with the next report",
            report.events.len()
        ))),
        _ if report.limits.as_ref().is_some_and(|limits| limits.len() > WORKLOAD_COUNT_MAX) => Err(Refusal::invalid(
            format!("limits has more entries than a node may have workloads, {WORKLOAD_COUNT_MAX}"),
        )),
        _ if report.software.as_ref().is_some_and(|software| software.len() > WORKLOAD_COUNT_MAX + 1)
            || report.security.as_ref().is_some_and(|security| security.len() > WORKLOAD_COUNT_MAX + 1) =>
        {
            Err(Refusal::invalid(format!(
                "software or security has more entries than a node and the workloads that it may have, {WORKLOAD_COUNT_MAX}"
            )))
        }
        _ if report.samples.len() > SAMPLE_BATCH_COUNT_MAX => Err(Refusal::invalid(format!(
            "samples has {} batches: send at most {SAMPLE_BATCH_COUNT_MAX}",
            report.samples.len()
        ))),
        _ => report
            .samples
            .iter()
            .try_for_each(check_samples)
            .and(check_workloads(id, report.workloads.as_deref().unwrap_or_default())),
    }
}

fn check_samples(batch: &SampleBatch) -> Result<(), Refusal> {
    let is_too_much = batch.rows.len() > WORKLOAD_COUNT_MAX + 1 || batch.signals.len() > SIGNAL_COUNT_MAX;
    let is_table = batch.rows.iter().all(|row| row.values.len() == batch.signals.len());
    match (is_too_much, is_table) {
        (true, _) => Err(Refusal::invalid(format!(
            "a batch of samples has at most {} rows and {SIGNAL_COUNT_MAX} signals",
            WORKLOAD_COUNT_MAX + 1
        ))),
        (_, false) => Err(Refusal::invalid("every row of a batch of samples has a value, or null, for each signal")),
        _ => Ok(()),
    }
}

/// Keeps what was measured of what is known to be on the node, and has a pass look if that changes something.
fn take_samples(context: &Context, id: &AgentId, samples: &[SampleBatch]) {
    let Ok(node) = id.name.parse::<NodeName>() else { return };
    if samples.is_empty() {
        return;
    }
    let snapshot = context.store.snapshot();
    let is_known = |subject: &SubjectId| check_exists(&snapshot, subject).is_ok();
    if context.live.activations.record(&node, samples, is_known, context.live.clock.moment()) {
        context.live.wake.notify_one();
    }
}

fn check_workloads(id: &AgentId, workloads: &[WorkloadReport]) -> Result<(), Refusal> {
    if workloads.len() > WORKLOAD_COUNT_MAX {
        let detail = format!("workloads has {} entries, a node may have {WORKLOAD_COUNT_MAX}", workloads.len());
        return Err(Refusal::invalid(detail));
    }
    for (index, workload) in workloads.iter().enumerate() {
        let is_device = |report: &WorkloadReport| report.kind == WorkloadKind::Device;
        let same = |other: &&WorkloadReport| {
            other.name == workload.name || (is_device(workload) && is_device(other) && other.device == workload.device)
        };
        if let Some(other) = workloads[..index].iter().find(same) {
            return Err(Refusal::new(
                Kind::Conflict,
                format!("{id} reports workloads {} and {} with the same name or device", other.name, workload.name),
            ));
        }
    }
    Ok(())
}

fn workloads_of(snapshot: &Snapshot, id: &AgentId) -> Vec<Arc<WorkloadRecord>> {
    let Ok(node) = id.name.parse::<NodeName>() else { return Vec::new() };
    workloads_on(&snapshot.workloads, &node).map(|(_, record)| record.clone()).collect()
}

fn differs(snapshot: &Snapshot, id: &AgentId, found: &[WorkloadReport]) -> bool {
    let known = workloads_of(snapshot, id);
    let is_known = |workload: &WorkloadReport| known.iter().any(|record| record.report == *workload);
    known.len() != found.len() || !found.iter().all(is_known)
}

fn note(
    draft: &mut Draft,
    id: &AgentId,
    rejection: Option<Rejection>,
    workloads: Option<Vec<WorkloadReport>>,
    events: Vec<AgentEvent>,
) -> Result<(), Refusal> {
    if let Some(rejection) = rejection {
        let message = format!("{id} rejected generation {}: {}", rejection.generation, rejection.reason);
        draft.event("apply.rejected", id, id, message, json!({ "generation": rejection.generation }));
    }
    for event in events {
        let details = json!({ "agentTimeMs": event.time_ms });
        draft.event(&event.name, &event.about, id, event.message, details);
    }
    match (workloads, id.name.parse::<NodeName>()) {
        (Some(found), Ok(node)) => replace_workloads(draft, id, &node, found),
        _ => Ok(()),
    }
}

/// How a workload is told from others, for people.
fn whereabouts(report: &WorkloadReport) -> String {
    let device = (!report.device.is_empty()).then(|| format!("device {}", report.device));
    let address = report.address.map(|address| format!("address {address}"));
    let prefix = report.prefix6.map(|prefix| format!("prefix {prefix}"));
    let parts: Vec<String> = [device, address, prefix].into_iter().flatten().collect();
    if parts.is_empty() { format!("by its {}", report.kind) } else { parts.join(", ") }
}

fn replace_workloads(
    draft: &mut Draft,
    id: &AgentId,
    node: &NodeName,
    found: Vec<WorkloadReport>,
) -> Result<(), Refusal> {
    let known = workloads_of(draft.state(), id);
    for gone in known.iter().filter(|record| !found.iter().any(|workload| workload.name == record.report.name)) {
        let subject = SubjectId::Workload(node.clone(), gone.report.name.clone());
        draft.delete::<WorkloadRecord>(&subject);
        draft.event("workload.gone", &subject, id, format!("{subject} is no longer on its node"), json!({}));
    }
    for report in found {
        let subject = SubjectId::Workload(node.clone(), report.name.clone());
        let before = known.iter().find(|record| record.report.name == report.name);
        if before.is_some_and(|record| record.report == report) {
            continue;
        }
        let (name, verb) =
            if before.is_some() { ("workload.changed", "changed") } else { ("workload.found", "was found") };
        let message = format!("{subject} {verb}: {}", whereabouts(&report));
        let details = json!({ "before": before.map(|record| &record.report), "after": report });
        draft.event(name, &subject, id, message, details);
        draft.put(WorkloadRecord { node: node.clone(), report });
    }
    Ok(())
}
