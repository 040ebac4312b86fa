//! Asks one address for one page over HTTP/1.1, again and again over the same connection, from inside a network namespace.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::Socket;

use super::config::MetricsUrl;
use crate::privilege::{self, SocketKind};

/// Largest page that is read, bytes.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// What is asked for: the format whose lines are understood.
const FORMAT: &str = "text/plain; version=0.0.4";

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The namespace is not there.
    #[error("network namespace {path} cannot be opened")]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("{address} cannot be connected to")]
    Connect {
        /// Whom.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    /// It does not answer with a page. Where it would send us instead is not gone to.
    #[error("it answers {0}, not 200 with a page")]
    Status(StatusCode),
    /// The page is too long or breaks off.
    #[error("the page breaks off, or is longer than {PAGE_BYTES_MAX} bytes")]
    Page(#[source] axum::Error),
    /// The page is something else.
    #[error("the page is no text")]
    NoText,
    /// Nothing came in time.
    #[error("there is no answer within {0:?}")]
    Late(Duration),
}

/// Asks for one page.
#[derive(Debug)]
pub(super) struct Fetcher {
    url: MetricsUrl,
    timeout: Duration,
    connection: Option<SendRequest<Body>>,
}

impl Fetcher {
    /// Nothing is connected yet.
    pub(super) fn new(url: MetricsUrl, timeout: Duration) -> Self {
        Self { url, timeout, connection: None }
    }

    /// Whether the next page comes over a connection that is there already.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.is_closed())
    }

    /// The page as it is now; a new connection is made in this namespace, or in our own.
    pub(super) async fn page(&mut self, namespace: Option<&Path>) -> Result<String, FetchError> {
        let connection = self.connection.take().filter(|connection| !connection.is_closed());
        let (url, timeout) = (self.url.clone(), self.timeout);
        let asked = async move {
            let mut connection = match connection {
                Some(connection) => connection,
                None => connect(url.address, namespace, timeout).await?,
            };
            let page = ask(&mut connection, &url).await?;
            Ok::<_, FetchError>((connection, page))
        };
        let (connection, page) =
            tokio::time::timeout(timeout, asked).await.map_err(|_| FetchError::Late(timeout))??;
        self.connection = Some(connection);
        Ok(page)
    }
}

/// A socket stays in the namespace that it was made in.
async fn connect(
    address: SocketAddr,
    namespace: Option<&Path>,
    timeout: Duration,
) -> Result<SendRequest<Body>, FetchError> {
    let file = match namespace {
        Some(path) => {
            let failed = |source| FetchError::Namespace { path: path.to_owned(), source };
            Some(privilege::open_namespace(path).map_err(failed)?)
        }
        None => None,
    };
    let connected = tokio::task::spawn_blocking(move || {
        let stream = match &file {
            Some(file) => connect_inside(file, &address, timeout)?,
            None => TcpStream::connect_timeout(&address, timeout)?,
        };
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    let failed = |source| FetchError::Connect { address, source };
    let stream = connected.await.map_err(io::Error::other).flatten().map_err(failed)?;
    let stream = tokio::net::TcpStream::from_std(stream).map_err(failed)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends when the sender is dropped, or with an error that the sender sees too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn connect_inside(namespace: &File, address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let kind = if address.is_ipv4() { SocketKind::Tcp4 } else { SocketKind::Tcp6 };
    let socket = Socket::from(privilege::socket_inside(namespace, kind)?);
    socket.connect_timeout(&(*address).into(), timeout)?;
    Ok(socket.into())
}

async fn ask(connection: &mut SendRequest<Body>, url: &MetricsUrl) -> Result<String, FetchError> {
    connection.ready().await?;
    let request = Request::get(&url.path).header(HOST, url.address.to_string()).header(ACCEPT, FORMAT);
    let request = request.body(Body::empty()).expect("the path was checked when it was read");
    let answer = connection.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let page = to_bytes(Body::new(answer.into_body()), PAGE_BYTES_MAX).await.map_err(FetchError::Page)?;
    String::from_utf8(page.into()).map_err(|_| FetchError::NoText)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers every request of every connection; says how many connections there were.
    fn server(answer: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                let mut request = [0; 4_096];
                while stream.read(&mut request).is_ok_and(|length| length > 0) {
                    if stream.write_all(&answer).is_err() {
                        break;
                    }
                }
            }
        });
        (address, count)
    }

    fn answer(status: &str, head: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{head}\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn fetcher(address: SocketAddr) -> Fetcher {
        let url = format!("http://{address}/metrics").parse().unwrap();
        Fetcher::new(url, Duration::from_millis(500))
    }

    #[tokio::test]
    async fn a_page_comes_again_over_the_same_connection() {
        let (address, count) = server(answer("200 OK", "", b"up 1\n"));
        let mut fetcher = fetcher(address);
        for _ in 0..3 {
            assert_eq!(fetcher.page(None).await.unwrap(), "up 1\n");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_no_page_is_said_and_no_redirection_is_followed() {
        let (elsewhere, visits) = server(answer("200 OK", "", b"up 1\n"));
        let location = format!("Location: http://{elsewhere}/metrics\r\n");
        for (given, expected) in [
            (answer("302 Found", &location, b""), "302 Found"),
            (answer("404 Not Found", "", b""), "404 Not Found"),
            (answer("200 OK", "", &vec![b'#'; PAGE_BYTES_MAX + 1]), "longer than"),
            (answer("200 OK", "", b"\xff\xfe"), "no text"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nup 1".to_vec(), "no answer within"),
            (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "the connection broke"),
        ] {
            let (address, _) = server(given);
            let error = fetcher(address).page(None).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(visits.load(Ordering::Relaxed), 0, "nobody was sent elsewhere");
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetcher(address).page(None).await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
