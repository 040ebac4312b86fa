//! `persona-ctl top`: nodes, edges, personas and subjects with their rates, live, in a terminal.
//!
//! A look asks the manager for everything; rates are the differences between two looks. What keys do and what is shown are
//! functions of the state, and of nothing else.

mod fleet;
mod keys;
mod screen;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::{Stream, StreamExt as _};
use persona_core::units::Span;
use persona_core::wire::api::EventView;
use ratatui::DefaultTerminal;

use super::{Output, Session, explain};
use crate::client::{ApiClient, ClientError};
use fleet::Fleet;
use keys::{Action, State};

/// Events that are kept to be shown.
const EVENT_COUNT_MAX: usize = 200;

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: Tab and 1 to 4 choose what is listed, arrows and Page keys move, s sorts by the next column, r turns the order,
/ filters, Enter looks closer (a node's or a persona's subjects, who hears an edge, why a subject wears what it wears),
Esc goes back, p pauses, q ends.

Example:
  persona-ctl top --every 5s")]
pub(super) struct TopArgs {
    /// How often to look: every look asks the manager for the whole fleet.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    every: Span,
}

/// What is known, and when it was asked for.
#[derive(Default)]
struct Known {
    /// The newest look.
    now: Fleet,
    /// The one before.
    before: Option<Fleet>,
    /// The newest events, the newest last.
    events: VecDeque<EventView>,
    /// Why the last look failed.
    failure: Option<String>,
}

impl TopArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<()> {
        if session.output != Output::Table || !std::io::stdout().is_terminal() {
            bail!("top draws on a terminal; for programs there are status, node list and edge list with --output json");
        }
        if self.every < Span(100) {
            bail!("--every {}: looks are at least 100ms apart", self.every);
        }
        let newest = session.client.audit_checkpoint().await?.checkpoint.number;
        let events = session.client.follow_events(Some(newest.saturating_sub(EVENT_COUNT_MAX as u64))).await?;
        let known = Known { now: Fleet::look(&session.client).await?, ..Known::default() };
        // From here on a panic puts the terminal back too.
        let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
        let ended = watch(&session.client, &mut terminal, known, events, Duration::from_millis(self.every.0)).await;
        ratatui::restore();
        ended
    }
}

async fn watch(
    client: &ApiClient,
    terminal: &mut DefaultTerminal,
    mut known: Known,
    events: impl Stream<Item = Result<EventView, ClientError>>,
    every: Duration,
) -> anyhow::Result<()> {
    let (mut state, mut keys) = (State::default(), EventStream::new());
    let mut events = std::pin::pin!(events.fuse());
    let mut looks = tokio::time::interval(every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        state.settle(&known);
        terminal.draw(|frame| screen::draw(frame, &known, &state))?;
        let action = tokio::select! {
            _ = looks.tick(), if !state.is_paused => {
                known.take(Fleet::look(client).await);
                None
            }
            Some(event) = events.next() => {
                known.note(event);
                None
            }
            key = keys.next() => match key.context("the terminal is gone")?? {
                Event::Key(key) if key.kind == KeyEventKind::Press => state.press(key, &known),
                _ => None,
            },
        };
        match action {
            Some(Action::End) => return Ok(()),
            Some(Action::Explain(subject)) => {
                let told = client.explain(&subject).await;
                state.show(&subject.to_string(), told.map_or_else(|error| error.to_string(), |it| explain::tell(&it)));
            }
            None => {}
        }
    }
}

impl Known {
    /// Takes in a look; after one that failed the last one stays.
    fn take(&mut self, look: Result<Fleet, ClientError>) {
        match look {
            Ok(fleet) => {
                self.before = Some(std::mem::replace(&mut self.now, fleet));
                self.failure = None;
            }
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn note(&mut self, event: Result<EventView, ClientError>) {
        match event {
            Ok(event) => {
                if self.events.len() == EVENT_COUNT_MAX {
                    self.events.pop_front();
                }
                self.events.push_back(event);
            }
            Err(error) => self.failure = Some(format!("no more events: {error}")),
        }
    }
}
