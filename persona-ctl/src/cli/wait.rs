//! Waiting for an assignment to come into force, with a spinner that shows after a second.

use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use persona_core::ids::SubjectId;
use persona_core::wire::api::AssignmentView;

use super::Session;

/// Time between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two looks at something that is being drained.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A spinner shows when somebody has waited this long.
const SPINNER_DELAY: Duration = Duration::from_secs(1);

/// Waits until the node (and every edge concerned) acknowledged what the subject shall wear.
pub(super) async fn until_in_force(
    session: &Session,
    subject: &SubjectId,
    limit: Duration,
) -> anyhow::Result<AssignmentView> {
    let start = Instant::now();
    let mut spinner = None;
    loop {
        let assignment = session.client.explain(subject).await?.assignment;
        if assignment.in_force {
            spinner.iter().for_each(ProgressBar::finish_and_clear);
            return Ok(assignment);
        }
        if start.elapsed() >= limit {
            spinner.iter().for_each(ProgressBar::finish_and_clear);
            bail!(
                "{subject}: decided, but not in force after {} s; persona-ctl status says which node or edge is behind",
                limit.as_secs()
            );
        }
        if spinner.is_none() && start.elapsed() >= SPINNER_DELAY {
            spinner = Some(show_spinner(format!("waiting for {subject}'s node and edges")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Asks again and again until `is_done`; the spinner says what `progress` makes of each answer.
pub(super) async fn until_empty<T>(
    what: &str,
    limit: Duration,
    ask: impl AsyncFn() -> Result<T, crate::client::ClientError>,
    is_done: impl Fn(&T) -> bool,
    progress: impl Fn(&T) -> String,
) -> anyhow::Result<T> {
    let start = Instant::now();
    let spinner = show_spinner(what.to_owned());
    loop {
        let answer = ask().await?;
        spinner.set_message(format!("{what}: {}", progress(&answer)));
        if is_done(&answer) {
            spinner.finish_and_clear();
            return Ok(answer);
        }
        if start.elapsed() >= limit {
            spinner.finish_and_clear();
            bail!("{what} is not empty after {} s: {}", limit.as_secs(), progress(&answer));
        }
        tokio::time::sleep(DRAIN_POLL_INTERVAL).await;
    }
}

/// A spinner on standard error; nothing where that is no terminal.
fn show_spinner(message: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("the template is a constant");
    let spinner = ProgressBar::new_spinner().with_style(style).with_message(message);
    spinner.enable_steady_tick(POLL_INTERVAL);
    spinner
}
