//! Signs the chain of events each minute in which something happened and when the manager stops, and drops events for
//! their age, with a signature over the last one dropped in their place.

use std::sync::Arc;
use std::time::Duration;

use persona_core::audit::{SEALED_EVENT, SealPurpose};
use tokio_util::sync::CancellationToken;

use crate::access::MANAGER;
use crate::authority::Authority;
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::{Draft, Kept};

/// What happened is signed this late at most.
const SEAL_INTERVAL: Duration = Duration::from_secs(60);

/// Older events than this many are dropped, once there are so many to drop.
const KEPT: Kept = Kept { count: 200_000, slack: 1_000 };

/// Runs until the manager is quiet: nobody changes anything any more.
pub(crate) async fn run(context: Context, quiet: CancellationToken) {
    let mut sealed = 0;
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(SEAL_INTERVAL) => false,
            () = quiet.cancelled() => true,
        };
        if context.store.standing().leads() {
            let outcome = match drop_old(&context, KEPT).await {
                Ok(()) => seal(&context, &mut sealed).await,
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = outcome {
                tracing::warn!(reason = refusal.detail(), "the chain of events was not signed");
            }
        }
        if is_last {
            return;
        }
    }
}

/// Signs what happened since the last signature. `sealed` is the number of the event that holds that one.
async fn seal(context: &Context, sealed: &mut u64) -> Result<(), Refusal> {
    let newest = context.store.snapshot().event_last;
    if newest == *sealed || newest == 0 {
        return Ok(());
    }
    let events = context.store.events_after(newest - 1, 1).await?;
    if events.first().is_some_and(|event| event.name == SEALED_EVENT) {
        *sealed = newest;
        return Ok(());
    }
    let authority = context.authority.clone();
    *sealed = context.store.change(move |draft| put_seal(draft, &authority)).await?;
    Ok(())
}

fn put_seal(draft: &mut Draft, authority: &Arc<Authority>) -> Result<u64, Refusal> {
    let head = draft.state().event_head.map(|hash| (draft.state().event_last, hash));
    let Some(head) = head else { return Ok(0) };
    let seal = authority.seal(head, SealPurpose::Head, draft.now_ms()).map_err(Refusal::internal_from)?;
    let message = format!("events up to {} are signed", head.0);
    let details = serde_json::to_value(&seal).map_err(Refusal::internal_from)?;
    draft.event(SEALED_EVENT, format!("root/{}", seal.root), MANAGER, message, details);
    Ok(draft.state().event_last)
}

async fn drop_old(context: &Context, kept: Kept) -> Result<(), Refusal> {
    let Some(last) = context.store.drop_point(kept).await? else { return Ok(()) };
    let seal = context.authority.seal(last, SealPurpose::Stub, now_ms()).map_err(Refusal::internal_from)?;
    let change = move |draft: &mut Draft| {
        draft.drop_events(seal);
        Ok(())
    };
    context.store.change(change).await
}
