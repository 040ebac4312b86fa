//! `persona-ctl reach show|set`: how much of the fleet changes by people and programs may reach within an hour.

use clap::{Args, Subcommand};
use persona_core::reach::ReachLimit;
use persona_core::wire::reach::{ReachSettings, ReachView};

use super::Session;

/// What to do with the limit.
#[derive(Debug, Subcommand)]
pub(super) enum ReachCommand {
    /// Show the limit and what is left of it.
    Show,
    Set(SetArgs),
}

/// Set the limit. It binds people and programs together; failover, rollbacks and revocations never.
#[derive(Debug, Args)]
#[command(after_help = "\
A change reaches the subjects that wear or lease something else after it; draining or weighing an edge, its share of those of \
its group. What is refused says when there is room for it. An administrator goes over the limit with --override-reach REASON.

Examples:
  persona-ctl reach set --percent-per-hour 25 --subjects-at-least 10
  persona-ctl reach set --off")]
pub(super) struct SetArgs {
    /// Of the fleet's subjects, percent.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100), required_unless_present = "off")]
    percent_per_hour: Option<u8>,
    /// So many subjects at least, however small the fleet is.
    #[arg(long, value_name = "COUNT", default_value_t = 0, requires = "percent_per_hour")]
    subjects_at_least: u32,
    /// Let changes reach any part of the fleet.
    #[arg(long, conflicts_with = "percent_per_hour")]
    off: bool,
}

impl ReachCommand {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        let known = session.client.reach().await?;
        let view = match self {
            Self::Show => known.value,
            Self::Set(args) => session.client.set_reach(&known, &args.settings()).await?,
        };
        session.output.show(&view, told)
    }
}

impl SetArgs {
    fn settings(&self) -> ReachSettings {
        let subjects_at_least = self.subjects_at_least;
        ReachSettings { limit: self.percent_per_hour.map(|it| ReachLimit { percent_per_hour: it, subjects_at_least }) }
    }
}

fn told(view: &ReachView) -> String {
    let (Some(limit), Some(allowed)) = (view.limit, view.allowed) else {
        return format!("Changes may reach any part of the fleet, which has {} subjects.", view.fleet);
    };
    format!(
        "Changes may reach {} % of {} subjects an hour, {} at least: {allowed}. Within the last hour {} were reached, {} are left.",
        limit.percent_per_hour,
        view.fleet,
        limit.subjects_at_least,
        view.used,
        allowed.saturating_sub(view.used)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told() {
        let limit = Some(ReachLimit { percent_per_hour: 25, subjects_at_least: 2 });
        let view = ReachView { limit, fleet: 100, allowed: Some(25), used: 20 };
        let told_text = told(&view);
        assert!(
            told_text.contains("25 % of 100") && told_text.ends_with("20 were reached, 5 are left."),
            "{told_text}"
        );
        assert!(told(&ReachView { used: 30, ..view }).ends_with("0 are left."));
        assert!(told(&ReachView { limit: None, allowed: None, ..view }).contains("any part"));
    }
}
