//! Alerts, written down: what subjects' personas watch for, raised and cleared, with events.

use persona_core::ids::SubjectId;
use serde_json::json;

use crate::activation::{AlertNews, AlertTurn};
use crate::live::Live;
use crate::store::{Draft, SubjectRecord};

/// Looks at all that are watched, and writes what follows into the draft. It comes after assignment: who no longer wears a
/// section is no longer watched.
pub(super) fn advance(draft: &mut Draft, live: &Live) {
    for AlertTurn { subject, raised, news } in live.activations.alerts(draft.state(), live.clock.moment()) {
        let Some(record) = draft.state().subjects.get(&subject).cloned() else { continue };
        news.iter().for_each(|news| tell(draft, &subject, news));
        draft.put(SubjectRecord { alerts: raised, ..(*record).clone() });
    }
}

fn tell(draft: &mut Draft, subject: &SubjectId, news: &AlertNews) {
    let AlertNews { alert, is_raised, persona, version, reason, seen } = news;
    let (name, what) = if *is_raised { ("alert.raised", "is raised") } else { ("alert.cleared", "is cleared") };
    let details = json!({ "alert": alert, "persona": persona, "version": version, "reason": reason, "saw": seen });
    draft.event(name, subject, "manager", format!("{subject}: {alert} {what}: {reason}"), details);
}
