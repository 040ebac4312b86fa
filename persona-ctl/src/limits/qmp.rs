//! A client of QEMU's monitor: lines of JSON over a Unix socket (QEMU's QMP specification).
//!
//! A monitor serves one client at a time, so each turn connects, asks and leaves.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::error::LimitError;
use super::peer;
use super::qmp_answers::{Said, cut, is_greeting, said};
use crate::privilege;

/// How long QEMU may take for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Longest line that is read, bytes.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// Events that may stand before an answer.
const EVENT_COUNT_MAX: usize = 1_024;

/// A connection, ready for commands.
#[derive(Debug)]
pub(super) struct Qmp {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and takes up the dialogue.
    pub(super) fn connect(path: &Path) -> Result<Self, LimitError> {
        let failed = |source: std::io::Error| LimitError::NoMonitor { path: path.to_owned(), source };
        let stream = privilege::connect_monitor(path).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_TIME)).map_err(failed)?;
        stream.set_write_timeout(Some(ANSWER_TIME)).map_err(failed)?;
        let mut qmp = Self { path: path.to_owned(), stream: BufReader::new(stream) };
        let greeting = qmp.line()?;
        if !is_greeting(&greeting) {
            return Err(qmp.failed(format!("it greets with {}: that is no QMP", cut(&greeting.to_string()))));
        }
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// QEMU's process.
    pub(super) fn process(&self) -> Result<u32, LimitError> {
        peer::process_behind(self.stream.get_ref()).map_err(|error| self.failed(error.to_string()))
    }

    /// Runs a command and gives what it returns.
    pub(super) fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, LimitError> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        sent.map_err(|error| self.failed(format!("{command}: {error}")))?;
        for _line in 0..EVENT_COUNT_MAX {
            match said(self.line()?) {
                Said::Returned(value) => return Ok(value),
                Said::Refused(why) => return Err(self.failed(format!("{command}: {why}"))),
                Said::Event => {}
            }
        }
        Err(self.failed(format!("{command}: {EVENT_COUNT_MAX} events and no answer")))
    }

    fn line(&mut self) -> Result<Value, LimitError> {
        let mut line = String::new();
        let read = (&mut self.stream).take(LINE_BYTES_MAX).read_line(&mut line);
        match read {
            Ok(0) => Err(self.failed("it closed the connection: perhaps somebody else is connected".to_owned())),
            Ok(_) => serde_json::from_str(&line).map_err(|error| self.failed(format!("{error} in {:?}", cut(&line)))),
            Err(error) => {
                Err(self
                    .failed(format!("no answer within {ANSWER_TIME:?}, perhaps somebody else is connected: {error}")))
            }
        }
    }

    fn failed(&self, what: String) -> LimitError {
        LimitError::Monitor { path: self.path.clone(), what }
    }
}
