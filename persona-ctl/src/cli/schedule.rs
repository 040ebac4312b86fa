//! `persona-ctl activation trigger --at, --every`, `schedules` and `unschedule`: activations that come by themselves.

use clap::Args;
use persona_core::activate::instant;
use persona_core::ids::{PersonaName, ScheduleName, SubjectId};
use persona_core::units::Span;
use persona_core::wire::api::{NewSchedule, ScheduleView};

use super::Session;
use super::print::{ahead, now_ms, show_done, table_of, utc};

/// When a triggered activation comes, if not now.
#[derive(Debug, Args)]
pub(super) struct When {
    /// Not now but then: a time with an offset or Z, or as the clock of --time-zone shows it.
    #[arg(long, value_name = "TIME", requires = "duration", conflicts_with_all = ["every", "wait"])]
    at: Option<String>,
    /// At each time of a cron schedule: minute, hour, day, month, weekday.
    #[arg(long, value_name = "CRON", requires = "duration", conflicts_with = "wait")]
    every: Option<String>,
    /// Whose clock --at and --every mean, such as Europe/Berlin.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// The schedule's name, unique for the subject. Without it: the persona's.
    #[arg(long, value_name = "NAME")]
    name: Option<ScheduleName>,
}

/// Arguments of `activation schedules`.
#[derive(Debug, Args)]
pub(super) struct SchedulesArgs {
    /// Only those of this subject: node/NAME or workload/NODE/NAME.
    subject: Option<SubjectId>,
}

/// Arguments of `activation unschedule`.
#[derive(Debug, Args)]
pub(super) struct UnscheduleArgs {
    /// Whose: node/NAME or workload/NODE/NAME.
    subject: SubjectId,
    /// The schedule.
    name: ScheduleName,
}

impl When {
    /// What to ask the manager for. None: now.
    pub(super) fn schedule(
        self,
        subject: &SubjectId,
        persona: &PersonaName,
        duration: Option<Span>,
    ) -> anyhow::Result<Option<NewSchedule>> {
        let Self { at, every, time_zone, name } = self;
        let Some(Span(for_ms)) = duration.filter(|_| at.is_some() || every.is_some()) else { return Ok(None) };
        let at_ms = at.map(|text| instant(&text, &time_zone)).transpose()?;
        let time_zone = every.is_some().then_some(time_zone);
        let (subject, persona) = (subject.clone(), persona.clone());
        Ok(Some(NewSchedule { subject, persona, name, at_ms, every, time_zone, for_ms }))
    }
}

impl SchedulesArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let mut all = session.client.schedules().await?;
        all.retain(|schedule| self.subject.as_ref().is_none_or(|subject| *subject == schedule.subject));
        session.output.show(&all, |all| told(all, now_ms()))
    }
}

impl UnscheduleArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        session.client.remove_schedule(&self.subject, &self.name).await?;
        show_done(session.output, "schedule", &self.name, "removed")
    }
}

/// Schedules, for people.
pub(super) fn told(all: &[ScheduleView], now_ms: u64) -> String {
    let row = |schedule: &ScheduleView| {
        let times = match (schedule.at_ms, &schedule.every) {
            (Some(at_ms), _) => utc(at_ms),
            (None, every) => {
                [every.as_deref(), schedule.time_zone.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ")
            }
        };
        let state = match (&schedule.trouble, schedule.open_until_ms) {
            (Some(trouble), _) => trouble.clone(),
            (None, Some(until_ms)) => format!("open until {}", utc(until_ms)),
            (None, None) => ahead(schedule.next_ms, now_ms),
        };
        let (subject, persona, span) =
            (schedule.subject.to_string(), schedule.persona.to_string(), Span(schedule.for_ms).to_string());
        [subject, schedule.name.to_string(), persona, times, span, state]
    };
    table_of(&["SUBJECT", "NAME", "PERSONA", "TIMES", "FOR", "STATE"], all.iter().map(row), "nothing is scheduled")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Trigger {
        #[arg(long = "for")]
        duration: Option<Span>,
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        when: When,
    }

    fn read(line: &str) -> Result<Option<NewSchedule>, String> {
        let args = Trigger::try_parse_from(line.split('|')).map_err(|error| error.to_string())?;
        let (subject, persona) = ("workload/n1/web".parse().unwrap(), "night".parse().unwrap());
        args.when.schedule(&subject, &persona, args.duration).map_err(|error| error.to_string())
    }

    #[test]
    fn times_are_read_by_the_clock_that_is_meant() {
        assert!(read("t|--for|8h").unwrap().is_none());
        let once = read("t|--for|2h|--at|2026-12-24 18:00|--time-zone|Europe/Berlin").unwrap().unwrap();
        assert_eq!((once.at_ms, once.every, once.time_zone), (Some(1_798_131_600_000), None, None));
        let every = read("t|--for|8h|--every|0 22 * * 1-5|--name|nightly").unwrap().unwrap();
        assert_eq!(
            (every.every.as_deref(), every.time_zone.as_deref(), every.for_ms),
            (Some("0 22 * * 1-5"), Some("UTC"), 28_800_000)
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let cases = [
            ("t|--every|0 22 * * *", "--for"),
            ("t|--for|1h|--every|0 22 * * *|--at|2026-12-24 18:00", "cannot be used with"),
            ("t|--for|1h|--every|0 22 * * *|--wait", "cannot be used with"),
            ("t|--for|1h|--at|tomorrow", "'tomorrow' is no time"),
        ];
        for (line, expected) in cases {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn schedules_are_told_with_when_they_come() {
        let view = serde_json::json!({ "subject": "workload/n1/web", "name": "nightly", "persona": "night", "atMs": null,
            "every": "0 22 * * *", "timeZone": "Europe/Berlin", "forMs": 28_800_000, "by": "access/ann", "madeMs": 0,
            "openUntilMs": null, "nextMs": 7_200_000, "trouble": null });
        let told = told(&[serde_json::from_value(view).unwrap()], 0);
        for part in ["nightly", "0 22 * * * Europe/Berlin", "8h", "in 2h 0m"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
