//! One method per row of the API's table. Lists follow their pages to the end.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt, TryStreamExt};
use persona_core::audit::AuditEntry;
use persona_core::ids::{EdgeName, LeaseId, NodeName, RolloutName, ScheduleName, SubjectId};
use persona_core::label_selector::LabelSelector;
use persona_core::plan::Fleet;
use persona_core::wire::api::{
    AccessTokenSecret, AccessTokenView, ActivationView, AlertView, Applied, Apply, AssignmentView, AuditCheckpoint,
    AuthorityView, CapabilityRequest, DeadLetterView, DocumentView, EdgeView, EdgeWeight, EventView, Explanation,
    ForecastAccuracy, JoinTokenSecret, JoinTokenView, LabelsView, LeaseView, MaintenanceOrder, NewAccessToken,
    NewJoinToken, NewSchedule, NewWebLink, NewWebhook, NodeView, Page, PersonaView, PoolView, PushSignal, Retire,
    Retried, RetryDeadLetters, Revoke, Rollback, Roots, Rotate, ScheduleView, SetLabels, SignalsView, Status, Switch,
    SwitchEnd, Trigger, WebLink, WebSessionView, WebhookSecret, WebhookView, WhoAmI, WorkloadView,
};
use persona_core::wire::planning::{PlanSettings, PlanView, WhatIf};
use persona_core::wire::reach::{ReachSettings, ReachView};
use persona_core::wire::rollouts::{RolloutOrder, RolloutView, StartRollout};
use reqwest::Method;
use reqwest::header::IF_MATCH;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::error::ClientError;
use super::http::{ApiClient, read};
use super::versions::{Applying, AsRead};

/// The longest line of an event stream, bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Events that are asked for at a time to be checked.
const AUDIT_PAGE_LENGTH: u32 = 1_000;

impl ApiClient {
    /// Stores documents, all or none. Those that do not say from which stored version they were read are taken to be
    /// changes of what is stored now.
    pub async fn apply(&self, apply: &Apply, how: Applying) -> Result<Applied, ClientError> {
        let mut apply = apply.clone();
        if !how.force_conflicts {
            self.fill_versions(&mut apply.documents).await?;
        }
        let mut query = vec![("dryRun", how.dry_run.to_string()), ("forceConflicts", how.force_conflicts.to_string())];
        query.extend(how.prune.map(|selector| ("prune", selector.to_string())));
        query.extend(how.prune_count.map(|count| ("pruneCount", count.to_string())));
        let request = self.request(Method::POST, &["apply"], &query).json(&apply);
        read(self.answer(request).await?).await
    }

    /// What would happen if documents were applied.
    pub async fn simulate(&self, apply: &Apply) -> Result<WhatIf, ClientError> {
        self.post(&["simulate"], apply).await
    }

    /// Every persona, each in its newest version.
    pub async fn personas(&self) -> Result<Vec<PersonaView>, ClientError> {
        self.list(&["personas"], &[]).await
    }

    /// Those of them with these labels. None: all.
    pub async fn personas_with(&self, selector: Option<&LabelSelector>) -> Result<Vec<PersonaView>, ClientError> {
        self.list(&["personas"], labelled(selector).as_slice()).await
    }

    /// A persona; without a version the newest.
    pub async fn persona(&self, name: &str, version: Option<u32>) -> Result<PersonaView, ClientError> {
        let version = version.map(|version| ("version", version.to_string()));
        let request = self.request(Method::GET, &["personas", name], version.as_slice());
        read(self.answer(request).await?).await
    }

    /// Every version of a persona.
    pub async fn persona_versions(&self, name: &str) -> Result<Vec<PersonaView>, ClientError> {
        self.list(&["personas", name, "versions"], &[]).await
    }

    /// Makes an old version's content the newest version.
    pub async fn rollback_persona(&self, name: &str, rollback: &Rollback) -> Result<PersonaView, ClientError> {
        let tag = self.tag_of(&["personas", name]).await?;
        let request = self.request(Method::POST, &["personas", name, "rollback"], &[]).header(IF_MATCH, tag);
        read(self.answer(request.json(rollback)).await?).await
    }

    /// Deletes a persona that nobody wears.
    pub async fn delete_persona(&self, name: &str) -> Result<(), ClientError> {
        self.delete_as_read(&["personas", name], &[]).await
    }

    /// Every binding.
    pub async fn bindings(&self) -> Result<Vec<DocumentView>, ClientError> {
        self.list(&["bindings"], &[]).await
    }

    /// Those of them with these labels. None: all.
    pub async fn bindings_with(&self, selector: Option<&LabelSelector>) -> Result<Vec<DocumentView>, ClientError> {
        self.list(&["bindings"], labelled(selector).as_slice()).await
    }

    /// A binding.
    pub async fn binding(&self, name: &str) -> Result<DocumentView, ClientError> {
        self.get(&["bindings", name]).await
    }

    /// Deletes a binding; who wore something only by it wears it no longer.
    pub async fn delete_binding(&self, name: &str) -> Result<(), ClientError> {
        self.delete_as_read(&["bindings", name], &[]).await
    }

    /// Every egress pool.
    pub async fn egress_pools(&self) -> Result<Vec<PoolView>, ClientError> {
        self.list(&["egress-pools"], &[]).await
    }

    /// Those of them with these labels. None: all.
    pub async fn egress_pools_with(&self, selector: Option<&LabelSelector>) -> Result<Vec<PoolView>, ClientError> {
        self.list(&["egress-pools"], labelled(selector).as_slice()).await
    }

    /// An egress pool.
    pub async fn egress_pool(&self, name: &str) -> Result<PoolView, ClientError> {
        self.get(&["egress-pools", name]).await
    }

    /// Deletes an egress pool that nothing is leased from.
    pub async fn delete_egress_pool(&self, name: &str) -> Result<(), ClientError> {
        self.delete_as_read(&["egress-pools", name], &[]).await
    }

    /// The live fleet as planning sees it.
    pub async fn fleet(&self) -> Result<Fleet, ClientError> {
        self.get(&["fleet"]).await
    }

    /// The plan of the live fleet.
    pub async fn plan(&self) -> Result<PlanView, ClientError> {
        self.get(&["plan"]).await
    }

    /// The last moves of the plan, the newest first.
    pub async fn plan_history(&self, limit: u32) -> Result<Vec<EventView>, ClientError> {
        let request = self.request(Method::GET, &["plan", "history"], &[("limit", limit.to_string())]);
        Ok(read::<Page<EventView>>(self.answer(request).await?).await?.items)
    }

    /// How the fleet is planned.
    pub async fn plan_settings(&self) -> Result<AsRead<PlanSettings>, ClientError> {
        self.get_as_read(&["settings", "planning"]).await
    }

    /// Sets how the fleet is planned, unless another did since it was read.
    pub async fn set_plan_settings(
        &self,
        before: &AsRead<PlanSettings>,
        settings: &PlanSettings,
    ) -> Result<PlanSettings, ClientError> {
        self.put_over(&["settings", "planning"], before, settings).await
    }

    /// How much of the fleet changes may reach within an hour, and what is left of it.
    pub async fn reach(&self) -> Result<AsRead<ReachView>, ClientError> {
        self.get_as_read(&["settings", "reach"]).await
    }

    /// Sets that, unless another did since it was read.
    pub async fn set_reach(
        &self,
        before: &AsRead<ReachView>,
        settings: &ReachSettings,
    ) -> Result<ReachView, ClientError> {
        self.put_over(&["settings", "reach"], before, settings).await
    }

    /// Begins a rollout. Documents are taken as by [`apply`](Self::apply).
    pub async fn start_rollout(&self, start: &StartRollout, force_conflicts: bool) -> Result<RolloutView, ClientError> {
        let mut start = start.clone();
        if !force_conflicts {
            self.fill_versions(&mut start.documents).await?;
        }
        let query = [("forceConflicts", force_conflicts.to_string())];
        read(self.answer(self.request(Method::POST, &["rollouts"], &query).json(&start)).await?).await
    }

    /// Every rollout under way, and those that were over lately.
    pub async fn rollouts(&self) -> Result<Vec<RolloutView>, ClientError> {
        self.list(&["rollouts"], &[]).await
    }

    /// A rollout.
    pub async fn rollout(&self, name: &RolloutName) -> Result<RolloutView, ClientError> {
        self.get(&["rollouts", name.as_str()]).await
    }

    /// Tells a rollout to pause, resume, abort or rollback.
    pub async fn order_rollout(
        &self,
        name: &RolloutName,
        command: &str,
        order: &RolloutOrder,
    ) -> Result<RolloutView, ClientError> {
        self.post(&["rollouts", name.as_str(), command], order).await
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ClientError> {
        self.list(&["nodes"], &[]).await
    }

    /// Those of them with these labels. None: all.
    pub async fn nodes_with(&self, selector: Option<&LabelSelector>) -> Result<Vec<NodeView>, ClientError> {
        self.list(&["nodes"], labelled(selector).as_slice()).await
    }

    /// A node.
    pub async fn node(&self, name: &NodeName) -> Result<NodeView, ClientError> {
        self.get(&["nodes", name.as_str()]).await
    }

    /// Has a node take nobody new, or take subjects again.
    pub async fn drain_node(&self, name: &NodeName, draining: bool) -> Result<NodeView, ClientError> {
        let verb = if draining { "drain" } else { "undrain" };
        self.post(&["nodes", name.as_str(), verb], &()).await
    }

    /// Deletes a node; with a reason even while its subjects hold leases.
    pub async fn delete_node(&self, name: &NodeName, force: Option<&str>) -> Result<(), ClientError> {
        let force = force.map(|reason| ("force", reason.to_owned()));
        self.delete_as_read(&["nodes", name.as_str()], force.as_slice()).await
    }

    /// Revokes a node's key: it is out at once.
    pub async fn revoke_node(&self, name: &NodeName, reason: &str) -> Result<(), ClientError> {
        self.order(&["nodes", name.as_str(), "revoke"], &Revoke { reason: reason.to_owned() }).await
    }

    /// Revokes an edge's key: it is out at once.
    pub async fn revoke_edge(&self, name: &EdgeName, reason: &str) -> Result<(), ClientError> {
        self.order(&["edges", name.as_str(), "revoke"], &Revoke { reason: reason.to_owned() }).await
    }

    /// Has new flows avoid an edge, or use it again.
    pub async fn drain_edge(&self, name: &EdgeName, draining: bool) -> Result<EdgeView, ClientError> {
        let verb = if draining { "drain" } else { "undrain" };
        self.post(&["edges", name.as_str(), verb], &()).await
    }

    /// Sets an edge's share of its group's flows.
    pub async fn set_edge_weight(&self, name: &EdgeName, weight: u16) -> Result<EdgeView, ClientError> {
        let before: AsRead<EdgeView> = self.get_as_read(&["edges", name.as_str()]).await?;
        self.put_over(&["edges", name.as_str(), "weight"], &before, &EdgeWeight { weight }).await
    }

    /// Takes an edge into maintenance.
    pub async fn begin_maintenance(&self, name: &EdgeName, reason: Option<String>) -> Result<EdgeView, ClientError> {
        let before: AsRead<EdgeView> = self.get_as_read(&["edges", name.as_str()]).await?;
        self.put_over(&["edges", name.as_str(), "maintenance"], &before, &MaintenanceOrder { reason }).await
    }

    /// Ends an edge's maintenance.
    pub async fn end_maintenance(&self, name: &EdgeName) -> Result<EdgeView, ClientError> {
        let before: AsRead<EdgeView> = self.get_as_read(&["edges", name.as_str()]).await?;
        self.delete_over(&["edges", name.as_str(), "maintenance"], &before).await
    }

    /// The labels of a node, an edge or a workload, by whose word they are.
    pub async fn labels(&self, of: &str) -> Result<AsRead<LabelsView>, ClientError> {
        self.get_as_read(&["labels", of]).await
    }

    /// Binds labels in the place of those that were bound when they were read.
    pub async fn set_labels(
        &self,
        of: &str,
        before: &AsRead<LabelsView>,
        labels: BTreeMap<String, String>,
    ) -> Result<LabelsView, ClientError> {
        self.put_over(&["labels", of], before, &SetLabels { labels }).await
    }

    /// Deletes an edge; with a reason even while it carries flows.
    pub async fn delete_edge(&self, name: &EdgeName, force: Option<&str>) -> Result<(), ClientError> {
        let force = force.map(|reason| ("force", reason.to_owned()));
        self.delete_as_read(&["edges", name.as_str()], force.as_slice()).await
    }

    /// Every edge.
    pub async fn edges(&self) -> Result<Vec<EdgeView>, ClientError> {
        self.list(&["edges"], &[]).await
    }

    /// Those of them with these labels. None: all.
    pub async fn edges_with(&self, selector: Option<&LabelSelector>) -> Result<Vec<EdgeView>, ClientError> {
        self.list(&["edges"], labelled(selector).as_slice()).await
    }

    /// An edge.
    pub async fn edge(&self, name: &EdgeName) -> Result<EdgeView, ClientError> {
        self.get(&["edges", name.as_str()]).await
    }

    /// Every workload.
    pub async fn workloads(&self) -> Result<Vec<WorkloadView>, ClientError> {
        self.list(&["workloads"], &[]).await
    }

    /// Those of them with these labels. None: all.
    pub async fn workloads_with(&self, selector: Option<&LabelSelector>) -> Result<Vec<WorkloadView>, ClientError> {
        self.list(&["workloads"], labelled(selector).as_slice()).await
    }

    /// A workload.
    pub async fn workload(&self, subject: &SubjectId) -> Result<WorkloadView, ClientError> {
        self.get(&["workloads", &subject.to_string()]).await
    }

    /// Every lease, those in quarantine too.
    pub async fn leases(&self) -> Result<Vec<LeaseView>, ClientError> {
        self.list(&["leases"], &[]).await
    }

    /// A lease.
    pub async fn lease(&self, id: LeaseId) -> Result<LeaseView, ClientError> {
        self.get(&["leases", &id.to_string()]).await
    }

    /// Every join token, without its secret.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenView>, ClientError> {
        self.list(&["join-tokens"], &[]).await
    }

    /// Makes a join token; its secret is only in this answer.
    pub async fn create_join_token(&self, token: &NewJoinToken) -> Result<JoinTokenSecret, ClientError> {
        self.post(&["join-tokens"], token).await
    }

    /// Revokes a join token; who has joined with it stays.
    pub async fn delete_join_token(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&["join-tokens", id]).await
    }

    /// Every access token, without its secret.
    pub async fn access_tokens(&self) -> Result<Vec<AccessTokenView>, ClientError> {
        self.list(&["access-tokens"], &[]).await
    }

    /// Makes an access token; its secret is only in this answer.
    pub async fn create_access_token(&self, token: &NewAccessToken) -> Result<AccessTokenSecret, ClientError> {
        self.post(&["access-tokens"], token).await
    }

    /// Revokes an access token.
    pub async fn delete_access_token(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&["access-tokens", id]).await
    }

    /// Makes a link to the page; its secret is only in this answer.
    pub async fn create_web_link(&self, link: &NewWebLink) -> Result<WebLink, ClientError> {
        self.post(&["web-links"], link).await
    }

    /// Every session at the page.
    pub async fn web_sessions(&self) -> Result<Vec<WebSessionView>, ClientError> {
        self.list(&["web-sessions"], &[]).await
    }

    /// Ends a session at the page.
    pub async fn delete_web_session(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&["web-sessions", id]).await
    }

    /// Every webhook, without its secret.
    pub async fn webhooks(&self) -> Result<Vec<WebhookView>, ClientError> {
        self.list(&["webhooks"], &[]).await
    }

    /// Makes a webhook; its secret is only in this answer.
    pub async fn create_webhook(&self, webhook: &NewWebhook) -> Result<WebhookSecret, ClientError> {
        self.post(&["webhooks"], webhook).await
    }

    /// Deletes a webhook with its dead letters.
    pub async fn delete_webhook(&self, name: &str) -> Result<(), ClientError> {
        self.delete_as_read(&["webhooks", name], &[]).await
    }

    /// Events that a webhook's receiver did not take.
    pub async fn dead_letters(&self, name: &str) -> Result<Vec<DeadLetterView>, ClientError> {
        self.list(&["webhooks", name, "dead-letters"], &[]).await
    }

    /// Has dead letters tried again.
    pub async fn retry_dead_letters(&self, name: &str, order: &RetryDeadLetters) -> Result<Retried, ClientError> {
        self.post(&["webhooks", name, "retry"], order).await
    }

    /// As whom the manager knows this client.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.get(&["whoami"]).await
    }

    /// The roots that the manager's certificate verifies under.
    pub async fn roots(&self) -> Result<Roots, ClientError> {
        self.get(&["roots"]).await
    }

    /// The fleet's roots, and who would be cut off without each.
    pub async fn authority(&self) -> Result<AuthorityView, ClientError> {
        self.get(&["authority"]).await
    }

    /// Makes a new root, which signs from now on.
    pub async fn rotate_authority(&self, rotate: &Rotate) -> Result<AuthorityView, ClientError> {
        self.post(&["authority", "rotate"], rotate).await
    }

    /// Takes a root out of trust.
    pub async fn retire_root(&self, id: &str, retire: &Retire) -> Result<AuthorityView, ClientError> {
        self.post(&["authority", "roots", id, "retire"], retire).await
    }

    /// Puts a persona on a subject by hand.
    pub async fn switch(&self, switch: &Switch) -> Result<AssignmentView, ClientError> {
        self.post(&["switch"], switch).await
    }

    /// Takes a switch by hand back; `end` bounds what old flows may take.
    pub async fn release_switch(
        &self,
        subject: &SubjectId,
        end: SwitchEnd,
    ) -> Result<Option<AssignmentView>, ClientError> {
        let cut_after = end.cut_after_ms.map(|ms| ("cutAfterMs", ms.to_string()));
        self.release(&["switch", &subject.to_string()], cut_after.as_slice()).await
    }

    /// Asks for capabilities; the manager chooses.
    pub async fn request_capabilities(&self, request: &CapabilityRequest) -> Result<AssignmentView, ClientError> {
        self.post(&["request"], request).await
    }

    /// Takes a request back.
    pub async fn release_request(&self, subject: &SubjectId) -> Result<Option<AssignmentView>, ClientError> {
        self.release(&["request", &subject.to_string()], &[]).await
    }

    /// Says something about a subject, for a while; returns everything that is known of it.
    pub async fn push_signal(&self, push: &PushSignal) -> Result<SignalsView, ClientError> {
        self.post(&["signals"], push).await
    }

    /// Everything that is known of a subject.
    pub async fn signals(&self, subject: &SubjectId) -> Result<SignalsView, ClientError> {
        self.get(&["signals", &subject.to_string()]).await
    }

    /// Takes a pushed signal back.
    pub async fn withdraw_signal(&self, subject: &SubjectId, name: &str) -> Result<(), ClientError> {
        self.delete_with(&["signals", &subject.to_string()], &[("name", name.to_owned())]).await
    }

    /// What criteria make of a subject.
    pub async fn activation(&self, subject: &SubjectId) -> Result<ActivationView, ClientError> {
        self.get(&["activation", &subject.to_string()]).await
    }

    /// Alerts that are raised.
    pub async fn alerts(&self) -> Result<Vec<AlertView>, ClientError> {
        self.list(&["alerts"], &[]).await
    }

    /// How far forecasts that criteria ask for turned out to be off.
    pub async fn forecast_accuracy(&self) -> Result<Vec<ForecastAccuracy>, ClientError> {
        self.list(&["forecasts"], &[]).await
    }

    /// Puts a persona on in the layer of activation, whatever its criteria say.
    pub async fn trigger_activation(&self, trigger: &Trigger) -> Result<AssignmentView, ClientError> {
        self.post(&["activation"], trigger).await
    }

    /// Releases a triggered activation: criteria decide again.
    pub async fn release_activation(&self, subject: &SubjectId) -> Result<Option<AssignmentView>, ClientError> {
        self.release(&["activation", &subject.to_string()], &[]).await
    }

    /// Has a persona put on by itself, for a while each time.
    pub async fn schedule_activation(&self, new: &NewSchedule) -> Result<ScheduleView, ClientError> {
        self.post(&["schedules"], new).await
    }

    /// Every schedule of activations.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, ClientError> {
        self.list(&["schedules"], &[]).await
    }

    /// Removes a schedule, and takes off what it has put on.
    pub async fn remove_schedule(&self, subject: &SubjectId, name: &ScheduleName) -> Result<(), ClientError> {
        self.delete_with(&["schedules", &subject.to_string()], &[("name", name.to_string())]).await
    }

    /// How a subject's assignment came about.
    pub async fn explain(&self, subject: &SubjectId) -> Result<Explanation, ClientError> {
        self.get(&["explain", &subject.to_string()]).await
    }

    /// How things stand.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get(&["status"]).await
    }

    /// Events after number `since`, oldest first.
    pub async fn events(&self, since: Option<u64>) -> Result<Vec<EventView>, ClientError> {
        let since = since.map(|number| ("since", number.to_string()));
        self.list(&["events"], since.as_slice()).await
    }

    /// Events after number `since` with their hashes, oldest first.
    pub async fn audit_entries(&self, since: u64) -> Result<Vec<AuditEntry>, ClientError> {
        let query = [("since", since.to_string()), ("limit", AUDIT_PAGE_LENGTH.to_string())];
        self.list(&["audit", "entries"], &query).await
    }

    /// The newest event, signed now.
    pub async fn audit_checkpoint(&self) -> Result<AuditCheckpoint, ClientError> {
        self.get(&["audit", "checkpoint"]).await
    }

    /// Events after number `since` (absent: from now), and every later one as it happens.
    pub async fn follow_events(
        &self,
        since: Option<u64>,
    ) -> Result<impl Stream<Item = Result<EventView, ClientError>> + use<>, ClientError> {
        let since = since.map(|number| ("since", number.to_string()));
        let query: Vec<_> = std::iter::once(("follow", "true".to_owned())).chain(since).collect();
        // Without a time limit: a stream of events ends when somebody ends it.
        let request = self.http.get(self.url(&["events"], &query));
        let response = self.answer(request).await?;
        let url = response.url().clone();
        let bytes = StreamReader::new(response.bytes_stream().map_err(std::io::Error::other));
        let lines = FramedRead::new(bytes, LinesCodec::new_with_max_length(EVENT_BYTES_MAX));
        let events = lines.map(move |line| {
            let unreadable = |reason: String| ClientError::Answer { url: url.to_string(), reason };
            let line = line.map_err(|error| unreadable(error.to_string()))?;
            if line.trim().is_empty() {
                return Ok(None); // a sign of life
            }
            serde_json::from_str(&line).map(Some).map_err(|error| unreadable(error.to_string()))
        });
        Ok(events.filter_map(|event| std::future::ready(event.transpose())))
    }
}

/// The part of a query that selects by labels.
fn labelled(selector: Option<&LabelSelector>) -> Option<(&'static str, String)> {
    selector.map(|selector| ("labelSelector", selector.to_string()))
}
