//! Lines of a stream whose other end is not trusted: none is kept that is longer than a message may be.

use std::io;

use persona_core::wire::guest::GUEST_LINE_BYTES_MAX;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Reads line by line.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Nothing is read yet.
    pub(crate) fn of(reader: R) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new() }
    }

    /// The next line, cut one byte after the bound if it is longer. None: the stream has ended. What was read stays read if this
    /// is given up and asked again.
    pub(crate) async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            let room = (GUEST_LINE_BYTES_MAX + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let taken = part.len() + usize::from(end.is_some());
            self.reader.consume(taken);
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_long_ones_are_cut() {
        let long = "y".repeat(3 * GUEST_LINE_BYTES_MAX);
        let text = format!("one\n\ntw\u{f6}\n{long}\nlast");
        let mut lines = Lines::of(text.as_bytes());
        for expected in ["one", "", "tw\u{f6}"] {
            assert_eq!(lines.next().await.unwrap().as_deref(), Some(expected));
        }
        assert_eq!(lines.next().await.unwrap().unwrap().len(), GUEST_LINE_BYTES_MAX + 1);
        assert_eq!(lines.next().await.unwrap(), None, "what has no end is no line");
    }
}
