//! What applications ask through their node's agent: for subjects of that node only, for a while, and not too often.

use axum::Json;
use axum::extract::State;
use persona_core::ids::SubjectId;
use persona_core::quota::Quota;
use persona_core::wire::agent::Role;
use persona_core::wire::api::{AssignmentView, Problem};
use persona_core::wire::ask::{ASK_MS_MAX, AgentAsk, Ask};
use serde_json::json;

use super::input::{FromAgent, parse};
use super::switch::answer;
use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::overrides::{self, Wanted};
use crate::reach::{self, Overriding};
use crate::store::{AgentId, Draft, Override, SubjectRecord};

/// Requests of the applications of one subject.
const QUOTA: Quota = Quota { count: 30, per_ms: 3_600_000 };

/// The longest text that says which process asked, bytes.
const BY_LENGTH_MAX: usize = 200;

/// Does what an application of one of the sender's subjects asks.
#[utoipa::path(post, path = "/v1/agent/ask", request_body = AgentAsk,
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn ask(State(context): State<Context>, agent: FromAgent) -> Result<Json<AssignmentView>, Refusal> {
    let AgentAsk { subject, by, ask } = parse(&agent.body)?;
    check_own(&agent.id, &subject)?;
    if by.len() > BY_LENGTH_MAX {
        return Err(Refusal::invalid(format!("by is longer than {BY_LENGTH_MAX} bytes")));
    }
    let changed = match ask {
        Ask::Show => {
            overrides::check_exists(&context.store.snapshot(), &subject)?;
            false
        }
        Ask::Request { capabilities, duration, content } => {
            if capabilities.is_empty() {
                return Err(Refusal::invalid("capabilities is empty: name at least one"));
            }
            if !(1..=ASK_MS_MAX).contains(&duration.0) {
                return Err(Refusal::invalid(format!("for is {duration}; applications ask for 1ms to 1d")));
            }
            check_quota(&context, &subject)?;
            let (assigner, who) = (context.assigner.clone(), subject.clone());
            let request = move |draft: &mut Draft| {
                check_free(draft, &who)?;
                let until_ms = Some(draft.now_ms().saturating_add(duration.0));
                let request = Override { value: Wanted { capabilities, content }, until_ms };
                overrides::request(draft, &assigner, &who, request, Some(by))
            };
            context.store.change(move |draft| within(draft, request)).await?
        }
        Ask::Release => {
            let (assigner, who) = (context.assigner.clone(), subject.clone());
            let take = move |record: &mut SubjectRecord| {
                record.request.take().map(|ended| json!({ "capabilities": ended.value, "by": by }))
            };
            let release = move |draft: &mut Draft| {
                check_free(draft, &who)?;
                overrides::end(draft, &assigner, &who, "request", None, take)
            };
            context.store.change(move |draft| within(draft, release)).await?
        }
    };
    answer(&context, &subject, changed)
}

/// A node speaks for its own subjects only.
fn check_own(id: &AgentId, subject: &SubjectId) -> Result<(), Refusal> {
    match id.role == Role::Node && subject.node().as_str() == id.name {
        true => Ok(()),
        false => Err(Refusal::new(Kind::Forbidden, format!("{id} asks for subjects of its own, not for {subject}"))),
    }
}

fn check_quota(context: &Context, subject: &SubjectId) -> Result<(), Refusal> {
    context.live.take_ask(subject, QUOTA).map_err(|wait_ms| {
        let secs = wait_ms.div_ceil(1_000);
        let detail = format!("{subject} may ask {} times an hour: wait {secs} s", QUOTA.count);
        Refusal::new(Kind::TooMany, detail).with_retry_after(Some(secs))
    })
}

/// An application replaces and ends what applications asked for, and nothing that a person or a program asked the manager for.
fn check_free(draft: &Draft, subject: &SubjectId) -> Result<(), Refusal> {
    let Some(record) = draft.state().subjects.get(subject) else { return Ok(()) };
    let by = record.requested_by.as_deref().unwrap_or("somebody");
    match record.request.is_some() && by != AgentId::node(subject.node()).to_string() {
        true => Err(Refusal::conflict(format!(
            "a request of {subject} by {by} is in force, which applications cannot change"
        ))),
        false => Ok(()),
    }
}

fn within(draft: &mut Draft, change: impl FnOnce(&mut Draft) -> Result<bool, Refusal>) -> Result<bool, Refusal> {
    reach::within(draft, &Overriding::default(), change, |_, _, changed| u32::from(*changed))
}
