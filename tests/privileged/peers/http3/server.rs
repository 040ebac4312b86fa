//! The server: `GET /whoami`, `GET /content/SEED/BYTES`, `POST /content/SEED`, which says whether what came is right.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes};
use h3::server::RequestStream;
use h3_quinn::BidiStream;
use http::{Method, Request, Response};
use persona_tests::netns::Namespace;
use persona_tests::peers::content::Content;
use persona_tests::world::INTERNET_ADDRESS;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Where it listens.
pub(super) const PORT: u16 = 443;

/// Bytes of body that are handed to the stream at once.
const CHUNK_BYTES: u64 = 64 << 10;

/// A server on a thread, which ends when this value is dropped.
pub(super) struct Server {
    /// Its certificate, for the internet host's address.
    pub(super) certificate: CertificateDer<'static>,
    endpoint: quinn::Endpoint,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one inside a namespace.
    pub(super) fn start(inside: &Namespace) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([INTERNET_ADDRESS.to_owned()])?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).ok().context("the key is not PKCS #8")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let socket = inside.run_inside(|| UdpSocket::bind(("0.0.0.0", PORT)))?.context("port 443 is taken")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let quic = Arc::new(quinn::TokioRuntime);
        let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, quic)?;
        drop(context);
        let accepting = endpoint.clone();
        let thread = std::thread::spawn(move || runtime.block_on(serve(accepting)));
        Ok(Self { certificate, endpoint, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"the test is over");
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread does not panic");
        }
    }
}

async fn serve(endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            if let Err(error) = serve_connection(incoming).await {
                eprintln!("HTTP/3 server: {error:#}"); // the client's outcome is what the test judges
            }
        });
    }
}

async fn serve_connection(incoming: quinn::Incoming) -> Result<()> {
    let quic = incoming.await?;
    let mut connection = h3::server::builder().build(h3_quinn::Connection::new(quic.clone())).await?;
    while let Ok(Some(resolver)) = connection.accept().await {
        let quic = quic.clone();
        tokio::spawn(async move {
            let answered = async {
                let (request, stream) = resolver.resolve_request().await?;
                answer(&request, quic.remote_address(), stream).await
            };
            if let Err(error) = answered.await {
                eprintln!("HTTP/3 server: {error:#}");
            }
        });
    }
    Ok(())
}

type Stream = RequestStream<BidiStream<Bytes>, Bytes>;

async fn answer(request: &Request<()>, client: SocketAddr, mut stream: Stream) -> Result<()> {
    let path = request.uri().path().to_owned();
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method(), words.as_slice()) {
        (&Method::GET, ["whoami"]) => answer_text(&mut stream, &format!("{} {}", client.ip(), client.port())).await?,
        (&Method::GET, ["content", seed, bytes]) => send_content(&mut stream, seed.parse()?, bytes.parse()?).await?,
        (&Method::POST, ["content", seed]) => {
            let verdict = check_content(&mut stream, seed.parse()?).await?;
            answer_text(&mut stream, &verdict).await?;
        }
        _ => bail!("nobody asks for {} {path}", request.method()),
    }
    Ok(stream.finish().await?)
}

async fn answer_text(stream: &mut Stream, text: &str) -> Result<()> {
    stream.send_response(Response::new(())).await?;
    Ok(stream.send_data(Bytes::copy_from_slice(text.as_bytes())).await?)
}

async fn send_content(stream: &mut Stream, seed: u64, bytes: u64) -> Result<()> {
    stream.send_response(Response::new(())).await?;
    let (mut content, mut left) = (Content::new(seed), bytes);
    while left > 0 {
        let mut chunk = vec![0; left.min(CHUNK_BYTES) as usize];
        content.fill(&mut chunk);
        left -= chunk.len() as u64;
        stream.send_data(chunk.into()).await?;
    }
    Ok(())
}

async fn check_content(stream: &mut Stream, seed: u64) -> Result<String> {
    let mut check = Check::new(seed);
    while let Some(mut data) = stream.recv_data().await? {
        check.take(&data.copy_to_bytes(data.remaining()));
    }
    Ok(check.verdict())
}

/// Compares a body with a seed's stream as it comes.
pub(super) struct Check {
    content: Content,
    expected: Vec<u8>,
    bytes: u64,
    wrong_at: Option<u64>,
}

impl Check {
    /// Nothing has come yet.
    pub(super) fn new(seed: u64) -> Self {
        Self { content: Content::new(seed), expected: Vec::new(), bytes: 0, wrong_at: None }
    }

    /// Takes the next bytes, however they are cut.
    pub(super) fn take(&mut self, data: &[u8]) {
        while self.expected.len() < data.len() {
            let mut more = vec![0; CHUNK_BYTES as usize];
            self.content.fill(&mut more);
            self.expected.extend_from_slice(&more);
        }
        let expected: Vec<u8> = self.expected.drain(..data.len()).collect();
        if let Some(at) = data.iter().zip(&expected).position(|(a, b)| a != b) {
            self.wrong_at.get_or_insert(self.bytes + at as u64);
        }
        self.bytes += data.len() as u64;
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `COUNT bytes right`, or where the first wrong one is.
    pub(super) fn verdict(&self) -> String {
        match self.wrong_at {
            None => format!("{} bytes right", self.bytes),
            Some(at) => format!("{} bytes, wrong at {at}", self.bytes),
        }
    }
}
