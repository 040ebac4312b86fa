//! What people and programs ask of the manager under `/v1`, and what it answers.
//!
//! | method, path | body → answer |
//! |---|---|
//! | `POST /v1/apply?dryRun=&forceConflicts=` | [`Apply`] → [`Applied`] |
//! | `GET /v1/personas` · `/{name}?version=` · `/{name}/versions` | → [`PersonaView`]s |
//! | `POST /v1/personas/{name}/rollback` · `DELETE /v1/personas/{name}` | [`Rollback`] → [`PersonaView`] |
//! | `GET /v1/bindings` · `/{name}` · `DELETE` | → [`DocumentView`] |
//! | `GET /v1/egress-pools` · `/{name}` · `DELETE` | → [`PoolView`] |
//! | `GET /v1/nodes` `/edges` `/workloads` `/leases` (each also `/{name or id}`) | → lists of views |
//! | `POST /v1/nodes/{name}/drain` `/undrain` · `POST /v1/edges/{name}/drain` `/undrain` | → [`NodeView`] · [`EdgeView`] |
//! | `PUT` `DELETE /v1/edges/{name}/maintenance` | [`MaintenanceOrder`] → [`EdgeView`] |
//! | `PUT /v1/edges/{name}/weight` · `DELETE /v1/nodes/{name}?force=` `/v1/edges/{name}?force=` | [`EdgeWeight`] → [`EdgeView`] |
//! | `POST /v1/nodes/{name}/revoke` · `POST /v1/edges/{name}/revoke` | [`Revoke`] |
//! | `GET/PUT /v1/settings/probe` · `/v1/settings/planning` | [`super::desired::ProbeItem`] · [`super::planning::PlanSettings`] |
//! | `GET/PUT /v1/settings/reach` | [`super::reach::ReachSettings`] → [`super::reach::ReachView`] |
//! | `GET/POST /v1/rollouts` · `GET /{name}` · `POST /{name}/pause` `/resume` `/abort` `/rollback` | [`StartRollout`](super::rollouts::StartRollout), [`RolloutOrder`](super::rollouts::RolloutOrder) → [`RolloutView`](super::rollouts::RolloutView) |
//! | `POST /v1/simulate` | [`Apply`] → [`super::planning::WhatIf`] |
//! | `GET /v1/fleet` · `/v1/plan` · `/v1/plan/history?limit=` | → [`Fleet`](crate::plan::Fleet) · [`super::planning::PlanView`] · [`Page`] of [`EventView`] |
//! | `POST/GET/DELETE /v1/join-tokens` | [`NewJoinToken`] → [`JoinTokenSecret`] |
//! | `POST/GET/DELETE /v1/access-tokens` · `GET /v1/whoami` · `GET /v1/roots` | [`NewAccessToken`] → [`AccessTokenSecret`] · [`WhoAmI`] · [`Roots`] |
//! | `POST /v1/web-links` · `POST/GET/DELETE /v1/web-sessions` | [`NewWebLink`] → [`WebLink`] · [`LogIn`] → [`WhoAmI`] · [`WebSessionView`]s |
//! | `GET /v1/authority` · `POST /v1/authority/rotate` · `/roots/{id}/retire` | [`Rotate`] · [`Retire`] → [`AuthorityView`] |
//! | `POST /v1/switch` · `DELETE /v1/switch/{subject}` | [`Switch`] → [`AssignmentView`] |
//! | `POST /v1/request` · `DELETE /v1/request/{subject}` | [`CapabilityRequest`] → [`AssignmentView`] |
//! | `GET /v1/agent/contents`, by an edge | → [`Contents`](super::contents::Contents) |
//! | `POST /v1/agent/ask`, by a node | [`AgentAsk`](super::ask::AgentAsk) → [`AssignmentView`] |
//! | `POST /v1/signals` · `GET/DELETE /v1/signals/{subject}` · `GET /v1/activation/{subject}` | [`PushSignal`] → [`SignalsView`] · [`ActivationView`] |
//! | `GET /v1/forecasts` · `GET /v1/alerts` | → [`Page`] of [`ForecastAccuracy`] · of [`AlertView`] |
//! | `POST /v1/activation` · `DELETE /v1/activation/{subject}` | [`Trigger`] → [`AssignmentView`] |
//! | `GET /v1/explain/{subject}` · `GET /v1/status` | → [`Explanation`] · [`Status`] |
//! | `GET /v1/audit/entries?since=&limit=` · `/checkpoint` | → [`Page`] of [`AuditEntry`](crate::audit::AuditEntry) · [`AuditCheckpoint`] |
//! | `POST/GET /v1/webhooks` · `GET/DELETE /{name}` · `/dead-letters` · `POST /{name}/retry` | [`NewWebhook`] → [`WebhookSecret`] · [`WebhookView`] · [`DeadLetterView`] |
//! | `GET /v1/events?since=&follow=&limit=` | → [`Page`] of [`EventView`], or an NDJSON stream with `follow=true` |
//!
//! Errors are `application/problem+json` (RFC 9457): [`Problem`]. Lists are [`Page`]s. One document, setting, node or edge has an
//! `ETag`, which `PUT`, `DELETE` and `rollback` of it need in `If-Match` (428 without, 412 with another); `*` is any.

mod access;
mod activation;
mod alerts;
mod answer;
mod audit;
mod authority;
mod documents;
mod explanation;
mod fleet;
mod join_tokens;
mod status;
mod subjects;
mod web;
mod webhooks;

pub use access::{AccessRole, AccessTokenSecret, AccessTokenView, NewAccessToken, Roots, WhoAmI};
pub use activation::{
    ActivationView, ForecastAccuracy, NewSchedule, PushSignal, ScheduleEnd, ScheduleView, SignalEnd, SignalView,
    SignalsView, Trigger,
};
pub use alerts::{AlertView, MonitoringView};
pub use answer::{Page, Problem, ProblemPart};
pub use audit::AuditCheckpoint;
pub use authority::{AuthorityView, Retire, RetiredRoot, RootState, RootView, Rotate, Succession};
pub use documents::{Applied, AppliedDocument, Apply, DocumentView, PersonaView, PoolView, Rollback};
pub use explanation::{Considered, ConsideredEdge, EdgeExplanation, EffectiveField, Explanation};
pub use fleet::{
    EdgeProbe, EdgeView, EdgeWeight, LabelsView, Maintenance, MaintenanceOrder, NodeView, Revoke, SetLabels,
};
pub use join_tokens::{JoinTokenSecret, JoinTokenView, NewJoinToken};
pub use status::{EventBookmark, EventView, Status};
pub use subjects::{AssignmentView, CapabilityRequest, LeaseView, SectionAssignment, Switch, SwitchEnd, WorkloadView};
pub use web::{CSRF_HEADER, LogIn, NewWebLink, REASON_HEADER, WebLink, WebSessionView};
pub use webhooks::{DeadLetterView, NewWebhook, Retried, RetryDeadLetters, WebhookSecret, WebhookView};
