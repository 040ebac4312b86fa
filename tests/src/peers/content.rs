//! Files whose every byte matters: made from a seed, compared whole after a transfer.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Bytes that are compared at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Bytes that differ with every seed and never repeat within a transfer (xorshift64*, whose period is 2^64 - 1).
#[derive(Debug, Clone)]
pub struct Content {
    state: u64,
}

impl Content {
    /// The stream of a seed, which must not be zero.
    pub fn new(seed: u64) -> Self {
        assert_ne!(seed, 0, "xorshift stays at zero");
        Self { state: seed }
    }

    /// Fills a buffer with the next bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// Writes the first bytes of a seed's stream into a file.
pub fn write(path: &Path, bytes: usize, seed: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
    let (mut writer, mut content) = (BufWriter::new(file), Content::new(seed));
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(CHUNK_BYTES);
        content.fill(&mut buffer[..length]);
        writer.write_all(&buffer[..length])?;
        left -= length;
    }
    writer.flush().with_context(|| format!("{} cannot be written", path.display()))
}

/// Fails, saying where, unless both files hold the same bytes; gives their count.
pub fn require_same(sent: &Path, received: &Path) -> Result<u64> {
    let open = |path: &Path| File::open(path).with_context(|| format!("{} cannot be read", path.display()));
    let (mut sent_file, mut received_file) = (open(sent)?, open(received)?);
    let mut offset = 0;
    loop {
        let (a, b) = (read_chunk(&mut sent_file)?, read_chunk(&mut received_file)?);
        if a != b {
            let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let (lengths, at) = ((sent_file.metadata()?.len(), received_file.metadata()?.len()), offset + same as u64);
            bail!(
                "{} ({} bytes) differs from {} ({} bytes) at byte {at}",
                received.display(),
                lengths.1,
                sent.display(),
                lengths.0
            );
        }
        if a.is_empty() {
            return Ok(offset);
        }
        offset += a.len() as u64;
    }
}

fn read_chunk(file: &mut File) -> Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    file.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        write(&a, CHUNK_BYTES + 5, 7).unwrap();
        write(&b, CHUNK_BYTES + 5, 7).unwrap();
        assert_eq!(require_same(&a, &b).unwrap(), CHUNK_BYTES as u64 + 5);
        let mut bytes = std::fs::read(&b).unwrap();
        bytes[CHUNK_BYTES + 2] ^= 1;
        std::fs::write(&b, &bytes).unwrap();
        let error = require_same(&a, &b).unwrap_err().to_string();
        assert!(error.ends_with(&format!("at byte {}", CHUNK_BYTES + 2)), "{error}");
        std::fs::write(&b, &bytes[..100]).unwrap();
        assert!(require_same(&a, &b).unwrap_err().to_string().ends_with("at byte 100"));
    }
}
