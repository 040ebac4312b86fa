//! Signals that are pushed and seen, and what criteria make of them.

use serde::{Deserialize, Serialize};

use crate::activate::PersonaStory;
use crate::ids::{PersonaName, ScheduleName, SubjectId};

/// `POST /v1/signals`: another system says something about a subject, for a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PushSignal {
    /// About whom.
    pub subject: SubjectId,
    /// The signal, such as `external.surge`.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// How long it counts, milliseconds: 1,000 to a week.
    pub for_ms: u64,
}

/// `DELETE /v1/signals/{subject}`: the query.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalEnd {
    /// The signal, such as `external.surge`.
    pub name: String,
}

/// `GET /v1/signals/{subject}`: everything that is known of a subject now.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SignalsView {
    /// Of whom.
    pub subject: SubjectId,
    /// Pushed and measured ones, by name.
    pub signals: Vec<SignalView>,
}

/// `GET /v1/forecasts`: how far forecasts that criteria ask for turned out to be off, since the manager that leads began to judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ForecastAccuracy {
    /// Whose signal.
    pub subject: SubjectId,
    /// Which.
    pub signal: String,
    /// How far ahead, milliseconds.
    pub ahead_ms: u64,
    /// Forecasts whose time has come; one is made every five minutes.
    pub count: u64,
    /// Their mean absolute error, in the signal's unit. Absent: none has come true yet.
    pub error: Option<f64>,
    /// What it would have been had things been taken to stay as they are.
    pub persistence_error: Option<f64>,
}

/// One signal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SignalView {
    /// Its name.
    pub name: String,
    /// Its newest value, in its unit.
    pub value: f64,
    /// The value with its unit, rounded, for people.
    pub shown: String,
    /// Pushed ones: until when it counts. Absent: it is measured.
    pub until_ms: Option<u64>,
    /// Pushed ones: who said so.
    pub by: Option<String>,
    /// How old the value is, milliseconds.
    pub age_ms: u64,
}

/// `POST /v1/activation`: a persona is put on in the layer of activation, whatever its criteria say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trigger {
    /// On whom.
    pub subject: SubjectId,
    /// The persona, in every section that it has.
    pub persona: PersonaName,
    /// For how long, milliseconds. Absent: until released.
    pub for_ms: Option<u64>,
}

/// `POST /v1/schedules`: a persona is put on by itself in the layer of activation, for a while each time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSchedule {
    /// On whom.
    pub subject: SubjectId,
    /// The persona, in every section that it has.
    pub persona: PersonaName,
    /// Its name, unique for the subject. Absent: the persona's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<ScheduleName>,
    /// When, milliseconds since the Unix epoch. Either this or `every`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// At each time of a cron schedule: minute, hour, day, month, weekday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// The schedule's time zone, an IANA name. Absent: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// For how long each time, milliseconds: a second to 31 days.
    pub for_ms: u64,
}

/// `DELETE /v1/schedules/{subject}`: the query.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleEnd {
    /// Which.
    pub name: ScheduleName,
}

/// A schedule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ScheduleView {
    /// On whom.
    pub subject: SubjectId,
    /// Its name.
    pub name: ScheduleName,
    /// The persona.
    pub persona: PersonaName,
    /// When, milliseconds since the Unix epoch. Absent: at each time of `every`.
    pub at_ms: Option<u64>,
    /// The cron schedule.
    pub every: Option<String>,
    /// Its time zone.
    pub time_zone: Option<String>,
    /// For how long each time, milliseconds.
    pub for_ms: u64,
    /// Who made it.
    pub by: String,
    /// When.
    pub made_ms: u64,
    /// Until when its window is open now. Absent: none is, or it was released.
    pub open_until_ms: Option<u64>,
    /// When one is opened next. Absent: never again.
    pub next_ms: Option<u64>,
    /// Why it would put nothing on now, if so.
    pub trouble: Option<String>,
}

/// `GET /v1/activation/{subject}`: what criteria make of a subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ActivationView {
    /// Of whom.
    pub subject: SubjectId,
    /// Every persona with rules that it may wear, in order, with every rule and what it sees.
    pub personas: Vec<PersonaStory>,
    /// Why it wears by activation what it wears. Absent: nothing.
    pub reason: Option<String>,
    /// Since when. Absent: it wears nothing by activation.
    pub since_ms: Option<u64>,
    /// What holds a switch back, if something does.
    pub held_back: Option<String>,
    /// How often it was switched within the time of its flap budget.
    pub switch_count: u32,
    /// How often it may be.
    pub switch_count_max: u32,
    /// That time, milliseconds.
    pub switch_span_ms: u64,
    /// Why its rules are not looked at, if they cannot be.
    pub trouble: Option<String>,
}
