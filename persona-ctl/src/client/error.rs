//! What can go wrong between a question to the manager and its answer.

use persona_core::wire::api::Problem;

/// A question to the manager that was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not one.
    #[error("manager URL {0:?} is not valid: use https://HOST:PORT, or unix:PATH of a manager's own socket")]
    Url(String),
    /// Its certificate cannot be checked.
    #[error(
        "the manager at {0} cannot be told from an impostor: log in with `persona-ctl login`, or say what to trust with --ca-file"
    )]
    NoTrust(String),
    /// What is to be trusted cannot be used.
    #[error("the manager cannot be told from others")]
    Trust(#[from] crate::trust::TrustError),
    /// A token would be sent where everybody can read it.
    #[error("no token is sent to {0} in plain HTTP: use https://")]
    PlainToken(String),
    /// A token that cannot be sent.
    #[error("the access token has characters that no token has")]
    Token,
    /// A reason that cannot be sent.
    #[error("a reason (--reason, --override-reach) must be one line of text")]
    Reason,
    /// It was not reached, or the connection broke.
    #[error("the manager at {url} does not answer (is it running? --manager or PERSONA_MANAGER say where)")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It said no.
    #[error("{}", describe(.0))]
    Refused(Box<Problem>),
    /// It said something that is not in the API.
    #[error("the manager's answer from {url} cannot be read: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl ClientError {
    /// The manager's problem, if it refused.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }
}

/// The problem in words: title and detail, then each wrong part on a line of its own.
fn describe(problem: &Problem) -> String {
    let head = if problem.detail.is_empty() { problem.title.clone() } else { problem.detail.clone() };
    let parts = problem.errors.iter().map(|part| match part.path.as_str() {
        "" => format!("\n  {}", part.detail),
        path => format!("\n  {path}: {}", part.detail),
    });
    std::iter::once(head).chain(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use persona_core::wire::api::ProblemPart;

    #[test]
    fn a_problem_is_told_with_its_parts() {
        let part = |path: &str, detail: &str| ProblemPart::new(path, detail);
        let problem = Problem {
            kind: "/problems/invalid-input".into(),
            title: "The input is not valid".into(),
            status: 400,
            detail: "document 1 is refused".into(),
            errors: vec![part("spec.network.mtu", "write 576 to 9000"), part("", "unknown pool a")],
        };
        let told = ClientError::Refused(Box::new(problem)).to_string();
        assert_eq!(told, "document 1 is refused\n  spec.network.mtu: write 576 to 9000\n  unknown pool a");
    }
}
