//! The Docker Engine as a guide: which container has a name, and whether it runs. It is asked, never told: see
//! docs/decisions/0009-limits-are-written-to-the-kernel.md.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::LimitError;
use crate::privilege;

/// Where the engine listens, usually.
pub const SOCKET: &str = "/var/run/docker.sock";

/// How long the engine may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What the engine says of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    /// Its id, 64 hexadecimal digits.
    #[serde(rename = "Id")]
    pub id: String,
    /// How it is.
    #[serde(rename = "State")]
    pub state: State,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Whether it runs.
    #[serde(rename = "Running")]
    pub running: bool,
    /// Its first process as the engine counts, which may be another namespace; 0 if it has none.
    #[serde(rename = "Pid")]
    pub pid: u32,
}

impl Container {
    /// What its control group may be called: by the cgroupfs driver, by systemd's, and by Podman's engine.
    pub(super) fn group_names(&self) -> Vec<String> {
        let id = &self.id;
        vec![id.clone(), format!("docker-{id}.scope"), format!("libpod-{id}"), format!("libpod-{id}.scope")]
    }
}

/// Asks an engine for a container. Blocks: not for a thread that drives a runtime.
pub(super) fn inspect(socket: &Path, name: &str) -> Result<Container, LimitError> {
    privilege::inspect_container(socket, name).map_err(|error| failed(socket, error.to_string()))
}

/// The same, with the rights of this process.
pub(crate) fn inspect_here(socket: &Path, name: &str) -> io::Result<Container> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(socket, name)).map_err(|error| match error {
        LimitError::Engine { what, .. } => io::Error::other(what),
        other => io::Error::other(other),
    })
}

/// The engine's version.
pub(super) async fn version(socket: &Path) -> Result<String, LimitError> {
    let answer = get(socket, "version").await?;
    let version: serde_json::Value = answer.json().await.map_err(|error| failed(socket, tell(&error)))?;
    Ok(version["Version"].as_str().unwrap_or("unknown").to_owned())
}

async fn ask(socket: &Path, name: &str) -> Result<Container, LimitError> {
    let answer = get(socket, &format!("containers/{name}/json")).await?;
    match answer.status().as_u16() {
        200 => answer.json().await.map_err(|error| failed(socket, tell(&error))),
        404 => Err(failed(socket, format!("there is no container {name}: start it, or correct container"))),
        status => Err(failed(socket, format!("it answers {status} when asked for container {name}"))),
    }
}

async fn get(socket: &Path, path: &str) -> Result<reqwest::Response, LimitError> {
    let client = crate::trust::plain_http().unix_socket(socket).timeout(ANSWER_TIME).build();
    let client = client.map_err(|error| failed(socket, tell(&error)))?;
    client.get(format!("http://docker/{path}")).send().await.map_err(|error| failed(socket, tell(&error)))
}

fn failed(socket: &Path, what: String) -> LimitError {
    LimitError::Engine { path: socket.to_owned(), what }
}

fn tell(error: &reqwest::Error) -> String {
    crate::host::error_chain(error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn engine(path: &Path, answer: &'static str) {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut head) = (stream.unwrap(), [0; 4_096]);
                let count = stream.read(&mut head).unwrap();
                assert!(head[..count].starts_with(b"GET /containers/web/json HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
    }

    #[test]
    fn a_container_is_told_by_its_name_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
        let body = r#"{"Id":"77","State":{"Running":true,"Pid":5}}"#;
        engine(
            &good,
            Box::leak(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_boxed_str()),
        );
        let found = inspect(&good, "web").unwrap();
        assert_eq!(found, Container { id: "77".into(), state: State { running: true, pid: 5 } });
        assert_eq!(found.group_names(), ["77", "docker-77.scope", "libpod-77", "libpod-77.scope"]);
        engine(&bad, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}");
        assert!(inspect(&bad, "web").unwrap_err().to_string().contains("no container web"));
        assert!(inspect(&folder.path().join("absent"), "web").unwrap_err().to_string().contains("absent"));
    }
}
