//! Signals: measured, pushed and predicted values of a subject, from which activation chooses a persona.
//!
//! `catalogue` knows every name with its unit, `window` keeps an hour of one signal in two kilobytes, `board` holds all
//! signals of one subject and answers readings. Nothing here measures: whoever measures passes value and time in.

mod board;
mod bucket;
mod catalogue;
mod external;
mod reading;
mod unit;
mod window;

pub use board::{Board, STALE_AFTER_DEFAULT_MS};
pub use catalogue::{MEASURED, SignalInfo, SignalName, UnknownSignal};
pub use external::{LIFETIME_MS_MAX, LIFETIME_MS_MIN, PUSHED_COUNT_MAX, PushError, Pushed};
pub use reading::{Input, PREDICTED_SPANS, Reading, WINDOW_SPANS};
pub use unit::Unit;
pub use window::Window;
