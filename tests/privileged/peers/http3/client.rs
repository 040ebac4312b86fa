//! The client: one connection, on which it asks who it is, uploads, downloads, and asks again.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::Request;
use persona_tests::netns::Namespace;
use persona_tests::peers::content::Content;
use persona_tests::world::INTERNET_ADDRESS;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;

use super::server::{Check, PORT};

/// Seeds of what goes down and up.
const DOWN_SEED: u64 = 31;
const UP_SEED: u64 = 37;

/// Bytes of body that are handed to the stream at once.
const CHUNK_BYTES: u64 = 32 << 10;

/// How long all may take.
const CLIENT_TIME: Duration = Duration::from_secs(60);

/// What the client saw.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// The server's word on who the client is, before everything else.
    pub(super) first_client: String,
    /// The same after everything else.
    pub(super) last_client: String,
    /// Bytes that came down, all of them right.
    pub(super) down_bytes: u64,
    /// The server's word on the upload.
    pub(super) upload: String,
}

/// A client on a thread.
pub(super) struct Client {
    bytes: Arc<AtomicU64>,
    thread: JoinHandle<Result<Outcome>>,
}

impl Client {
    /// Starts one inside a namespace, trusting one certificate.
    pub(super) fn start(inside: &Namespace, trusted: &CertificateDer<'static>, down: u64, up: u64) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let socket = inside.run_inside(|| UdpSocket::bind("0.0.0.0:0"))?.context("no port is free")?;
        let bytes = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let whole = run(socket, config, down, up, &shared);
                tokio::time::timeout(CLIENT_TIME, whole).await.context("the client did not end in time")?
            })
        });
        Ok(Self { bytes, thread })
    }

    /// Bytes that have come down so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes have come down.
    pub(super) fn wait_for_bytes(&self, bytes: u64, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while self.bytes() < bytes && !self.thread.is_finished() {
            if start.elapsed() > limit {
                bail!("only {} of {bytes} bytes came within {limit:?}", self.bytes());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits for its end.
    pub(super) fn finish(self) -> Result<Outcome> {
        self.thread.join().expect("the client's thread does not panic")
    }
}

async fn run(socket: UdpSocket, config: quinn::ClientConfig, down: u64, up: u64, bytes: &AtomicU64) -> Result<Outcome> {
    let quic = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, quic)?;
    let server = (INTERNET_ADDRESS.parse::<std::net::IpAddr>()?, PORT).into();
    let quic = endpoint.connect_with(config, server, INTERNET_ADDRESS)?.await?;
    let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
    let driving = tokio::spawn(async move { driver.wait_idle().await });
    let first_client = get_text(&mut requests, "whoami").await?;
    let upload = post_content(&mut requests, up).await?;
    let down_bytes = get_content(&mut requests, down, bytes).await?;
    let last_client = get_text(&mut requests, "whoami").await?;
    drop(requests);
    driving.await?;
    endpoint.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(Outcome { first_client, last_client, down_bytes, upload })
}

fn uri(path: &str) -> String {
    format!("https://{INTERNET_ADDRESS}/{path}")
}

async fn get_text(requests: &mut SendRequest<OpenStreams, Bytes>, path: &str) -> Result<String> {
    let mut stream = requests.send_request(Request::get(uri(path)).body(())?).await?;
    stream.finish().await?;
    stream.recv_response().await?;
    let mut text = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        text.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(String::from_utf8(text)?)
}

async fn post_content(requests: &mut SendRequest<OpenStreams, Bytes>, bytes: u64) -> Result<String> {
    let mut stream = requests.send_request(Request::post(uri(&format!("content/{UP_SEED}"))).body(())?).await?;
    let (mut content, mut left) = (Content::new(UP_SEED), bytes);
    while left > 0 {
        let mut chunk = vec![0; left.min(CHUNK_BYTES) as usize];
        content.fill(&mut chunk);
        left -= chunk.len() as u64;
        stream.send_data(chunk.into()).await?;
    }
    stream.finish().await?;
    stream.recv_response().await?;
    let mut data = stream.recv_data().await?.context("the server said nothing about the upload")?;
    Ok(String::from_utf8(data.copy_to_bytes(data.remaining()).to_vec())?)
}

async fn get_content(requests: &mut SendRequest<OpenStreams, Bytes>, bytes: u64, count: &AtomicU64) -> Result<u64> {
    let path = format!("content/{DOWN_SEED}/{bytes}");
    let mut stream = requests.send_request(Request::get(uri(&path)).body(())?).await?;
    stream.finish().await?;
    stream.recv_response().await?;
    let mut check = Check::new(DOWN_SEED);
    while let Some(mut data) = stream.recv_data().await? {
        check.take(&data.copy_to_bytes(data.remaining()));
        count.store(check.bytes(), Ordering::Relaxed);
    }
    if check.verdict() != format!("{bytes} bytes right") {
        bail!("of {bytes} bytes came {}", check.verdict());
    }
    Ok(check.bytes())
}
