//! Alerts that are raised.

use axum::Json;
use axum::extract::State;
use persona_core::ids::SubjectId;
use persona_core::wire::api::{AlertView, Page, Problem};

use super::input::Params;
use super::page::{PageParams, page};
use crate::context::Context;
use crate::error::Refusal;
use crate::store::{AlertRecord, SubjectRecord};

/// Every alert that is raised now, by subject and name.
#[utoipa::path(get, path = "/v1/alerts", params(PageParams),
    responses((status = 200, body = Page<AlertView>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<AlertView>>, Refusal> {
    let snapshot = context.store.snapshot();
    let of_subject = |record: &std::sync::Arc<SubjectRecord>| {
        let subject = record.subject.clone();
        let alerts = record.alerts.clone().into_iter();
        alerts.map(move |(alert, raised)| view(&subject, alert, raised))
    };
    let mut all: Vec<_> = snapshot.subjects.values().flat_map(of_subject).map(|it| (key(&it), it)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    page(&params, all.into_iter()).map(Json)
}

fn view(subject: &SubjectId, alert: String, raised: AlertRecord) -> AlertView {
    let AlertRecord { persona, version, since_ms, reason } = raised;
    AlertView { subject: subject.clone(), alert, persona, version, since_ms, reason }
}

fn key(alert: &AlertView) -> String {
    format!("{} {}", alert.subject, alert.alert)
}
