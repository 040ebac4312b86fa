//! Signs of life of managers, as reports meet them: what the way to them is judged by.

use std::io::ErrorKind;
use std::time::Instant;

use persona_core::trial::Signs;

use super::client::LinkError;

/// Questions whose fate is remembered: more than a trial needs.
const UNANSWERED_COUNT_MAX: usize = 16;

/// What became of reports.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// When the last question was asked that got a sign of life.
    answered: Option<Instant>,
    /// When the last questions were asked that got none, oldest first.
    unanswered: Vec<Instant>,
}

impl Heard {
    /// What was heard of questions that were asked since then.
    pub fn since(&self, moment: Instant) -> Signs {
        let is_answered = self.answered.is_some_and(|asked| asked >= moment);
        let unanswered_count = self.unanswered.iter().filter(|asked| **asked >= moment).count() as u32;
        Signs { is_answered, unanswered_count }
    }

    /// Notes what became of a question.
    pub(super) fn take(&mut self, asked: Instant, outcome: &Result<(), LinkError>) {
        if outcome.as_ref().err().is_none_or(is_sign) {
            self.answered = Some(asked);
            return;
        }
        if self.unanswered.len() == UNANSWERED_COUNT_MAX {
            self.unanswered.remove(0);
        }
        self.unanswered.push(asked);
    }
}

/// Whether a failure shows that packets go to a manager's host and back: it says no, or nobody listens there.
fn is_sign(error: &LinkError) -> bool {
    match error {
        LinkError::Unauthorized(_) | LinkError::Refused { .. } => true,
        LinkError::Unreachable { source, .. } => is_refused(source),
        _ => false,
    }
}

fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_was_asked_since_counts() {
        let (mut heard, start) = (Heard::default(), Instant::now());
        let at = |secs: u64| start + Duration::from_secs(secs);
        let silent = || Err(LinkError::Stream("cut".to_owned()));
        heard.take(at(1), &Ok(()));
        heard.take(at(2), &silent());
        heard.take(at(3), &silent());
        assert_eq!(heard.since(at(0)), Signs { is_answered: true, unanswered_count: 2 });
        assert_eq!(heard.since(at(3)), Signs { is_answered: false, unanswered_count: 1 });
        heard.take(at(4), &Err(LinkError::Unauthorized("it has ended".to_owned())));
        assert!(heard.since(at(4)).is_answered, "who says no is there");
        (0..100).for_each(|secs| heard.take(at(secs), &silent()));
        assert_eq!(heard.since(at(0)).unanswered_count, UNANSWERED_COUNT_MAX as u32);
    }

    #[tokio::test]
    async fn a_host_on_which_nobody_listens_is_a_sign_of_the_way() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = crate::trust::plain_http().build().unwrap();
        let source = client.get(format!("http://127.0.0.1:{port}/")).send().await.unwrap_err();
        assert!(is_sign(&LinkError::Unreachable { url: String::new(), source }));
        let none = client.get("http://127.0.0.1:1:2/").send().await.unwrap_err();
        assert!(!is_sign(&LinkError::Unreachable { url: String::new(), source: none }));
    }
}
