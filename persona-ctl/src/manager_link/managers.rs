//! The managers that can be asked, and which of them is. Whoever does not answer is left for the next one.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::client::LinkError;

/// All managers over one store, of which one is spoken to until it fails.
#[derive(Debug)]
pub(super) struct Managers {
    urls: Vec<String>,
    current: AtomicUsize,
}

/// The manager that a request goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manager<'a> {
    /// For [`leave`](Managers::leave).
    pub(super) number: usize,
    /// Where it is, without a slash at the end.
    pub(super) url: &'a str,
}

impl Managers {
    /// Checks the URLs. The first to be asked is any of them, so that agents are spread.
    pub(super) fn new(urls: Vec<String>) -> Result<Self, LinkError> {
        let is_url = |url: &str| reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.has_host());
        if let Some(bad) = urls.iter().find(|url| !is_url(url)) {
            return Err(LinkError::Url(bad.clone()));
        }
        if urls.is_empty() {
            return Err(LinkError::NoManager);
        }
        let mut byte = [0];
        // Without randomness everybody begins with the first: spreading is a courtesy.
        _ = SystemRandom::new().fill(&mut byte);
        let urls = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Ok(Self { urls, current: AtomicUsize::new(byte[0].into()) })
    }

    /// All of them.
    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Which one is asked now.
    pub(super) fn current(&self) -> Manager<'_> {
        let number = self.current.load(Ordering::Relaxed);
        Manager { number, url: &self.urls[number % self.urls.len()] }
    }

    /// Goes on to the next one, unless somebody else has already left that one.
    pub(super) fn leave(&self, number: usize) {
        _ = self.current.compare_exchange(number, number.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Leaves a manager whose answer says that another one may do better.
    pub(super) fn judge(&self, number: usize, error: &LinkError) {
        if is_its_own(error) {
            self.leave(number);
        }
    }
}

/// Whether another manager may do better.
fn is_its_own(error: &LinkError) -> bool {
    match error {
        LinkError::Unreachable { .. } | LinkError::Stream(_) => true,
        LinkError::Refused { status, .. } => status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managers(urls: &[&str]) -> Result<Managers, LinkError> {
        Managers::new(urls.iter().map(|url| (*url).to_owned()).collect())
    }

    #[test]
    fn nodes_and_edges_go_to_managers_over_tls_only() {
        assert!(matches!(managers(&[]), Err(LinkError::NoManager)));
        for bad in ["http://m:1", "m:1", "https://", "unix:/run/x"] {
            assert!(matches!(managers(&["https://m:1", bad]), Err(LinkError::Url(url)) if url == bad), "{bad}");
        }
    }

    #[test]
    fn a_manager_that_fails_is_left_for_the_next_and_one_that_refuses_is_not() {
        let managers = managers(&["https://m1:1/", "https://m2:1", "https://m3:1"]).unwrap();
        let refused = |status| LinkError::Refused { what: "report", status, detail: String::new(), retry_after: None };
        let cases = [
            (LinkError::Stream("broke".into()), 1),
            (refused(StatusCode::SERVICE_UNAVAILABLE), 1),
            (refused(StatusCode::BAD_REQUEST), 0),
            (LinkError::Unauthorized(String::new()), 0),
        ];
        for (error, step) in cases {
            let before = managers.current().number;
            managers.judge(before, &error);
            assert_eq!(managers.current().number, before + step, "{error}");
        }
        let before = managers.current().number;
        managers.leave(before);
        managers.leave(before);
        assert_eq!(managers.current().number, before + 1, "two tasks that see one failure leave one manager");
        let seen: std::collections::BTreeSet<_> = (0..3)
            .map(|_| {
                let manager = managers.current();
                managers.leave(manager.number);
                manager.url.to_owned()
            })
            .collect();
        assert!(seen.iter().map(String::as_str).eq(["https://m1:1", "https://m2:1", "https://m3:1"]));
    }
}
