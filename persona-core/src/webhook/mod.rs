//! Webhooks: which events go where, when a delivery is tried again, and where none may go.
//!
//! Deliveries of one webhook are made in the order of events. One that fails is tried again after a pause that doubles, and the
//! others wait; one that does not get through in the end becomes a dead letter, and so does one that is refused for good.

mod pattern;
mod target;

pub use pattern::{EventPattern, InvalidPattern};
pub use target::is_private_business;

/// Webhooks that there may be.
pub const WEBHOOK_COUNT_MAX: usize = 64;

/// Patterns of one webhook.
pub const PATTERN_COUNT_MAX: usize = 32;

/// Dead letters that are kept of one webhook; the oldest give way.
pub const DEAD_LETTER_COUNT_MAX: usize = 1_000;

/// How often a delivery is tried.
pub const ATTEMPT_COUNT_MAX: u32 = 8;

/// The first pause after a failure, and the longest, milliseconds.
const PAUSE_MS: u64 = 1_000;
const PAUSE_MS_MAX: u64 = 60_000;

/// Begins the names of events about webhooks' own troubles, which no webhook tells: each failure would make the next.
const OWN_TROUBLE: &str = "webhook.";

/// What a receiver said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has the event.
    Taken,
    /// It may take it another time: no answer, a fault of its own, or too many requests.
    Later,
    /// It will not.
    Never,
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The event is done with.
    Delivered,
    /// It is tried again after so many milliseconds.
    Again(u64),
    /// It is given up, and kept for people to look at.
    DeadLetter,
}

/// What an HTTP status means. What a receiver redirects is not followed.
pub fn answer_of(status: u16) -> Answer {
    match status {
        200..=299 => Answer::Taken,
        408 | 425 | 429 | 500..=599 => Answer::Later,
        _ => Answer::Never,
    }
}

/// What follows an attempt, the `attempt_count`th at this event.
pub fn after(answer: Answer, attempt_count: u32) -> Next {
    match answer {
        Answer::Taken => Next::Delivered,
        Answer::Later if attempt_count < ATTEMPT_COUNT_MAX => {
            let doublings = attempt_count.saturating_sub(1).min(16);
            Next::Again((PAUSE_MS << doublings).min(PAUSE_MS_MAX))
        }
        _ => Next::DeadLetter,
    }
}

/// Whether a webhook with these patterns tells an event of this name.
pub fn tells(patterns: &[EventPattern], event: &str) -> bool {
    !event.starts_with(OWN_TROUBLE) && patterns.iter().any(|pattern| pattern.fits(event))
}

/// What is signed: the time in seconds, and the body as it is sent.
pub fn signed_text(time_secs: u64, body: &[u8]) -> Vec<u8> {
    [format!("{time_secs}.").as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_it_is_given_up() {
        let pauses: Vec<Next> = (1..=ATTEMPT_COUNT_MAX).map(|count| after(Answer::Later, count)).collect();
        let expected = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000].map(Next::Again);
        assert_eq!(pauses[..7], expected);
        assert_eq!(pauses[7], Next::DeadLetter);
        assert_eq!(after(Answer::Never, 1), Next::DeadLetter);
        assert_eq!(after(Answer::Taken, 8), Next::Delivered);
    }

    #[test]
    fn a_status_says_whether_another_time_helps() {
        for (status, expected) in [
            (204, Answer::Taken),
            (302, Answer::Never),
            (400, Answer::Never),
            (410, Answer::Never),
            (429, Answer::Later),
            (503, Answer::Later),
        ] {
            assert_eq!(answer_of(status), expected, "{status}");
        }
    }

    #[test]
    fn no_webhook_tells_of_webhooks() {
        let all = ["*".parse().unwrap()];
        assert!(tells(&all, "edge.down") && !tells(&all, "webhook.failing"));
        assert!(!tells(&[], "edge.down"));
    }
}
