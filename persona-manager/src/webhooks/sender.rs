//! One delivery: an event, posted with a signature to where a webhook goes, and nowhere else.
//!
//! No redirection is followed, no proxy asked, and every address is judged right before it is connected to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use persona_core::hex;
use persona_core::units::Cidr;
use persona_core::webhook::{Answer, answer_of, is_private_business, signed_text};
use persona_core::wire::api::EventView;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use ring::hmac;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde::Serialize;

use crate::error::Refusal;

/// How long a receiver may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest URL, bytes.
const URL_LENGTH_MAX: usize = 2_000;

/// Sends events.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    http: Client,
    allowed: Arc<[Cidr]>,
}

/// What is posted.
#[derive(Debug, Serialize)]
struct Body<'a> {
    webhook: &'a str,
    event: &'a EventView,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What the receiver said.
    pub(crate) answer: Answer,
    /// The same for people.
    pub(crate) reason: String,
}

impl Sender {
    /// Sends to what is not the host's own business, and to what is allowed all the same.
    pub(crate) fn new(allowed: &[Cidr]) -> anyhow::Result<Self> {
        let allowed: Arc<[Cidr]> = allowed.into();
        let http = Client::builder()
            .tls_backend_preconfigured(tls()?)
            .redirect(Policy::none())
            .no_proxy()
            .timeout(ANSWER_TIME_MAX)
            .dns_resolver(Arc::new(Guarded { allowed: allowed.clone() }))
            .build()?;
        Ok(Self { http, allowed })
    }

    /// Posts an event. `secret` signs it, `now_secs` is when.
    pub(crate) async fn send(
        &self,
        (name, url): (&str, &str),
        secret: &str,
        event: &EventView,
        now_secs: u64,
    ) -> Outcome {
        let never = |reason: String| Outcome { answer: Answer::Never, reason };
        let url = match checked_url(url, &self.allowed) {
            Ok(url) => url,
            Err(refusal) => return never(refusal.detail().to_owned()),
        };
        let body = serde_json::to_vec(&Body { webhook: name, event }).expect("an event has string keys only");
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("persona-event", &event.name)
            .header("persona-delivery", event.number)
            .header("persona-timestamp", now_secs)
            .header("persona-signature", signature(secret, now_secs, &body));
        match request.body(body).send().await {
            Ok(answer) => {
                let status = answer.status();
                Outcome { answer: answer_of(status.as_u16()), reason: format!("it answers {status}") }
            }
            Err(error) => Outcome { answer: Answer::Later, reason: chain(&error.without_url()) },
        }
    }
}

/// Trusts whom this host trusts.
fn tls() -> anyhow::Result<ClientConfig> {
    let builder = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
    };
    match builder()?.with_platform_verifier() {
        Ok(trusting) => Ok(trusting.with_no_client_auth()),
        Err(error) => {
            tracing::warn!(%error, "this host trusts no certificates: webhooks with https will not get through");
            Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
    }
}

/// What receivers check: `v1=` and HMAC-SHA256 in hex.
fn signature(secret: &str, time_secs: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("v1={}", hex::encode(hmac::sign(&key, &signed_text(time_secs, body)).as_ref()))
}

/// A URL that events may be sent to, as far as it can be told without looking a name up.
pub(crate) fn checked_url(text: &str, allowed: &[Cidr]) -> Result<Url, Refusal> {
    let invalid = || {
        let advice = "write https://HOST/PATH or http://HOST/PATH, without a user and a fragment";
        Refusal::invalid(format!("url is {:?}: {advice}", text.chars().take(URL_LENGTH_MAX).collect::<String>()))
    };
    let url = Url::parse(text).map_err(|_| invalid())?;
    let is_http = matches!(url.scheme(), "https" | "http") && url.has_host();
    let has_extras = !url.username().is_empty() || url.password().is_some() || url.fragment().is_some();
    if !is_http || has_extras || text.len() > URL_LENGTH_MAX {
        return Err(invalid());
    }
    // However an address is written, here it stands in its plain form.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) if is_private_business(address, allowed) => Err(Refusal::invalid(refused(address))),
        _ => Ok(url),
    }
}

fn refused(address: IpAddr) -> String {
    format!(
        "{address} is the manager's host's own, its link's or its cloud's, and events are not sent there: name another, or allow it with webhook_allow in the manager's configuration"
    )
}

/// Looks names up, and leaves out what must not be connected to.
struct Guarded {
    allowed: Arc<[Cidr]>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (near, far): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| is_private_business(address.ip(), &allowed));
            match (far.is_empty(), near.first()) {
                (true, Some(near)) => Err(Refused(refused(near.ip())).into()),
                _ => Ok(Box::new(far.into_iter()) as Addrs),
            }
        })
    }
}

/// A name leads to nowhere that may be connected to.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_time_and_body() {
        // RFC 4231 has no such text; this is `printf '7.{}' | openssl dgst -sha256 -hmac key`.
        let expected = "v1=77bc83bd1f40422311e47918b203449aecf84b02c1568bb1b570ac2a474cc2d8";
        assert_eq!(signature("key", 7, b"{}"), expected);
        assert_ne!(signature("key", 8, b"{}"), expected);
    }

    #[test]
    fn an_address_is_judged_however_it_is_written() {
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
            "https://[fe80::1]/",
        ] {
            assert!(checked_url(text, &[]).unwrap_err().detail().contains("webhook_allow"), "{text}");
        }
        for text in
            ["ftp://example.com/", "https://", "https://user@example.com/", "https://example.com/#x", "nonsense"]
        {
            assert!(checked_url(text, &[]).unwrap_err().detail().contains("write https://"), "{text}");
        }
        for text in ["https://hooks.example/x?y=z", "http://10.0.0.9:8080/"] {
            checked_url(text, &[]).unwrap();
        }
        checked_url("http://127.0.0.1:9/", &["127.0.0.0/8".parse().unwrap()]).unwrap();
    }

    #[tokio::test]
    async fn a_name_that_leads_to_the_host_itself_is_not_connected_to() {
        let sender = Sender::new(&[]).unwrap();
        let event = EventView {
            number: 1,
            time_ms: 2,
            name: "edge.down".into(),
            about: "edge/e".into(),
            actor: "manager".into(),
            message: "m".into(),
            details: serde_json::json!({}),
        };
        let outcome = sender.send(("hook", "http://localhost:1/"), "key", &event, 7).await;
        assert_eq!(outcome.answer, Answer::Later);
        assert!(outcome.reason.contains("webhook_allow"), "{}", outcome.reason);
    }
}
