//! Connections that mean harm, or that have lost their other end: nodes and edges get in all the same, and what waits for
//! nothing ends by itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::*;
use persona_core::wire::agent::{Report, Role};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A manager gives up a handshake, headers and a first request after ten seconds; with some slack for a busy host.
const GIVEN_UP: Duration = Duration::from_secs(16);

fn address_of(app: &TestApp) -> SocketAddr {
    app.base.split("//").nth(1).unwrap().parse().unwrap()
}

/// TLS with that agent's certificate or without one, speaking this protocol.
async fn handshake(app: &TestApp, protocol: &str, by: Option<&FakeAgent>) -> TlsStream<TcpStream> {
    _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(app.roots().as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut config = match by {
        None => config.with_no_client_auth(),
        Some(agent) => {
            let chain = CertificateDer::pem_slice_iter(agent.certificate.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(agent.key.serialize_pem().as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address_of(app)).await.unwrap();
    let name = ServerName::from(address_of(app).ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// How long it takes until the other side ends the connection, at most the time given.
async fn ends_after(stream: &mut (impl tokio::io::AsyncRead + Unpin), most: Duration) -> Duration {
    let begun = Instant::now();
    let mut buffer = [0; 4_096];
    let ended = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    tokio::time::timeout(most, ended).await.unwrap_or_else(|_| panic!("it is open after {most:?}"));
    begun.elapsed()
}

async fn connections(app: &TestApp, whose: &str) -> usize {
    let metrics = app.get("/metrics").await;
    let name = format!("persona_connections{{whose=\"{whose}\"}} ");
    let line = metrics.as_str().unwrap().lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse().unwrap()
}

/// Another process that holds connections on which nothing is said, and opens again what is closed: both ends of 10,000 are
/// more than one process may have open.
struct Holder(Child);

impl Holder {
    /// Waits until nearly all of them are open at a time: where opening takes long, some are given up meanwhile. They come from loopback addresses of their own, 250 from each.
    fn start(to: SocketAddr, count: usize) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "hostile::hold_connections"])
            .env("PERSONA_TEST_HOLD", format!("{to} {count}"))
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("they are held"))));
        Self(child)
    }

    fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "what another test runs in a process of its own"]
async fn hold_connections() {
    let Ok(task) = std::env::var("PERSONA_TEST_HOLD") else { return };
    raise_open_files();
    let (to, count) = task.split_once(' ').unwrap();
    let (to, count): (SocketAddr, usize) = (to.parse().unwrap(), count.parse().unwrap());
    let open = async |number: usize| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 9, 0, 1 + (number / 250) as u8], 0))).unwrap();
        socket.connect(to).await.unwrap()
    };
    let mut held = Vec::new();
    for number in 0..count {
        held.push(open(number).await);
    }
    let (begun, mut is_told) = (Instant::now(), false);
    while begun.elapsed() < Duration::from_secs(60) {
        let mut closed_count = 0;
        for (number, stream) in held.iter_mut().enumerate() {
            let is_open = stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            if !is_open {
                closed_count += 1;
                *stream = open(number).await;
            }
        }
        if closed_count <= count / 50 && !is_told {
            println!("they are held");
            std::io::stdout().flush().unwrap();
            is_told = true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
}

/// Joins, opens its stream and reports, each in time.
async fn works(app: &TestApp, name: &str, byte: u8) -> Duration {
    let begun = Instant::now();
    let mut node = app.join(Role::Node, name, byte, None).await;
    node.watch().await;
    node.report(Report::default()).await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_keep_no_node_out_and_none_of_them_stays() {
    raise_open_files();
    let app = TestApp::new().await;
    let holder = Holder::start(address_of(&app), 10_000);
    let most = connections(&app, "stranger").await;
    assert!(most > 9_500, "{most}");
    let time = works(&app, "n1", 1).await;
    assert!(time < Duration::from_secs(5), "{time:?}");
    // One that stays is given up, whatever comes beside it.
    let mut silent = TcpStream::connect(address_of(&app)).await.unwrap();
    ends_after(&mut silent, GIVEN_UP).await;
    holder.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_in_where_strangers_hold_all_that_they_may() {
    let app = TestApp::with(|config| config.connections_max = std::num::NonZeroU32::new(64).unwrap()).await;
    let mut idle = Vec::new();
    for number in 0..200_u8 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 9, 1, 1 + number % 8], 0))).unwrap();
        idle.push(socket.connect(address_of(&app)).await.unwrap());
    }
    works(&app, "n1", 1).await;
    let held = connections(&app, "stranger").await;
    assert!((40..=48).contains(&held), "{held} of 48");
    let metrics = app.get("/metrics").await;
    let away =
        metrics.as_str().unwrap().lines().find(|line| line.starts_with("persona_connections_turned_away_total "));
    assert!(away.is_some_and(|line| !line.ends_with(" 0")), "{away:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_or_too_slowly_is_given_up() {
    let app = TestApp::new().await;
    let silent = async {
        let mut stream = TcpStream::connect(address_of(&app)).await.unwrap();
        ("silent", ends_after(&mut stream, GIVEN_UP).await)
    };
    let slow_handshake = async {
        let mut stream = TcpStream::connect(address_of(&app)).await.unwrap();
        // A ClientHello of 512 bytes, of which one byte comes in a second.
        let begun = Instant::now();
        for byte in [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 0, 0, 0, 0, 0_u8] {
            if stream.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        ends_after(&mut stream, GIVEN_UP).await;
        ("slow handshake", begun.elapsed())
    };
    let without_request = async {
        let mut stream = handshake(&app, "h2", None).await;
        ("no request", ends_after(&mut stream, GIVEN_UP).await)
    };
    let slow_header = async {
        let mut stream = handshake(&app, "http/1.1", None).await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: m\r\nX-Slow: ").await.unwrap();
        ("slow header", ends_after(&mut stream, GIVEN_UP).await)
    };
    let (one, two, three, four) = tokio::join!(silent, slow_handshake, without_request, slow_header);
    for (what, time) in [one, two, three, four] {
        assert!(time > Duration::from_secs(8) && time < GIVEN_UP + Duration::from_secs(1), "{what}: {time:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_or_is_too_large_is_a_problem_of_its_kind() {
    let app = TestApp::new().await;
    let slow = async {
        let mut stream = handshake(&app, "http/1.1", None).await;
        let head =
            "POST /v1/register HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // Some close without a last word of TLS, which is no matter here.
        _ = tokio::time::timeout(Duration::from_secs(30), read).await.expect("it is answered");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let large = async {
        let body = vec![b' '; (8 << 20) + 1];
        let request = app.http.post(format!("{}/v1/apply", app.base)).header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (slow, (status, problem)) = tokio::join!(slow, large);
    assert!(slow.starts_with("HTTP/1.1 408") && slow.contains("/problems/too-slow"), "{slow}");
    assert!(slow.contains("application/problem+json"), "{slow}");
    assert_eq!((status, &problem["type"]), (413, &json!("/problems/too-large")), "{problem}");
    // What is as large as it may be is read, and judged by what it says.
    let body = format!("{}{{", " ".repeat((8 << 20) - 1));
    let answer = app.http.post(format!("{}/v1/apply", app.base)).body(body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
}

/// An agent that is gone without a word, as when its host loses power: it acknowledges nothing and answers no ping.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_vanished_or_reads_no_more_is_let_go() {
    let app = TestApp::new().await;
    let node = app.join(Role::Node, "n1", 1, None).await;
    let before = connections(&app, "member").await;
    let mut stream = handshake(&app, "h2", Some(&node)).await;
    // The preface and its settings, after which nothing is said or read any more.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.flush().await.unwrap();
    eventually("it is open", async || connections(&app, "member").await > before).await;
    let begun = Instant::now();
    while connections(&app, "member").await > before {
        assert!(begun.elapsed() < GIVEN_UP, "it is still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(4), "it had its time");
}

/// What waits for a reader does not pile up: the stream's next frame is the difference to the newest state.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_its_watch_holds_little_and_comes_to_the_newest_state() {
    let (app, mut node, _edges) = crate::leases::world().await;
    node.watch().await;
    for round in 0..60 {
        let names: Vec<String> = (0..40).map(|number| format!("w{}", (round + number) % 80)).collect();
        node.report(workloads(&names)).await;
    }
    let published = app.get("/v1/nodes/n1").await["desired"].clone();
    node.take_what_is_there().await;
    assert_eq!(json!(node.state.generation), published);
}
