//! Connections to PostgreSQL: plain on the host itself, else with the server's certificate and name checked.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

/// Connecting takes at most this long.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A database that is silent for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What every session starts with. A host that vanished must not keep the lock of the leader.
const SESSION: &str = "SET synchronous_commit = on; SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; \
    SET tcp_keepalives_count = 3; SET tcp_user_timeout = 5000; SET lock_timeout = 5000; SET client_min_messages = warning; \
    LISTEN persona_store";

/// Where a database is and how it is reached.
#[derive(Clone)]
pub(super) struct Place {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

/// An open connection.
pub(super) struct Session {
    pub(super) client: Client,
    /// Told when another manager committed something.
    pub(super) notices: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl Session {
    /// Closes the connection, and with it gives up the lock. Dropping does not: the task moves on only with its runtime.
    pub(super) async fn close(self) {
        self.task.abort();
        _ = self.task.await; // it was told to end
    }
}

impl Place {
    /// Reads a URL. Beside libpq's keys `sslmode` may be `disable` or `verify-full`, and `sslrootcert` names a PEM file.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let invalid = |detail: String| StoreError::Url { detail };
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut kept, mut mode, mut roots) = (Vec::new(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(value),
                _ => kept.push(pair),
            }
        }
        let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| invalid(with_cause(&error)))?;
        let is_here = config.get_hosts().iter().all(is_local);
        let tls = match (mode, roots) {
            (Some("disable"), None) => None,
            (None, None) if is_here => None,
            (None | Some("verify-full"), Some(file)) => Some(MakeRustlsConnect::new(trust(file)?)),
            (Some("disable"), Some(_)) => {
                return Err(invalid("sslrootcert makes no sense with sslmode=disable: leave one out".to_owned()));
            }
            (None | Some("verify-full"), None) => {
                return Err(invalid(
                    "a database elsewhere is reached with sslmode=verify-full&sslrootcert=FILE, its CA's certificate in PEM, or with sslmode=disable on a network that you trust".to_owned(),
                ));
            }
            (Some(other), _) => {
                return Err(invalid(format!("sslmode={other} is not known here: use verify-full or disable")));
            }
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        config.connect_timeout(CONNECT_TIME_MAX).tcp_user_timeout(SILENCE_MAX);
        config.keepalives_idle(Duration::from_secs(3)).application_name("persona-manager");
        Ok(Self { config, tls })
    }

    /// Connects, on the current runtime.
    pub(super) async fn connect(&self) -> Result<Session, StoreError> {
        let session = match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                attend(client, connection)
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                attend(client, connection)
            }
        };
        session.client.batch_execute(SESSION).await?;
        Ok(session)
    }
}

/// Has a connection move on whenever the runtime runs; it ends with its client.
fn attend<S, T>(client: Client, mut connection: Connection<S, T>) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, notices) = mpsc::channel(1);
    let task = tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        // An error ends the connection, and whoever uses the client next is told of it.
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notification(_)) {
                _ = sender.try_send(()); // one that waits already says as much
            }
        }
    });
    Session { client, notices, task }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|it: std::net::IpAddr| it.is_loopback()),
    }
}

/// Trusts the certificates of a file and no others.
fn trust(file: &str) -> Result<ClientConfig, StoreError> {
    let invalid = |detail: String| StoreError::Url { detail: format!("sslrootcert {file}: {detail}") };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| invalid(error.to_string()))? {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("there is no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| invalid(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

pub(super) fn with_cause(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_elsewhere_is_verified_or_plainly_not() {
        let cases = [
            ("postgres://p@127.0.0.1/db", Ok(())),
            ("postgres://p@localhost:5433/db?connect_timeout=3", Ok(())),
            ("postgres://p@%2Frun%2Fpostgresql/db", Ok(())),
            ("postgres://p@db.example/db?sslmode=disable", Ok(())),
            ("postgres://p@db.example/db", Err("verify-full&sslrootcert")),
            ("postgres://p@db.example/db?sslmode=verify-full", Err("sslrootcert=FILE")),
            ("postgres://p@db.example/db?sslmode=require", Err("use verify-full or disable")),
            ("postgres://p@db.example/db?sslrootcert=/nowhere.pem", Err("/nowhere.pem")),
            ("postgres://p@db.example:x/db?sslmode=disable", Err("port")),
            ("postgres://p@127.0.0.1/db?sslmode=disable&sslrootcert=/c", Err("leave one out")),
        ];
        for (url, expected) in cases {
            match (Place::parse(url), expected) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{url}: {error}"),
                (outcome, _) => panic!("{url}: {:?}", outcome.err()),
            }
        }
    }
}
