//! What the internet host offers: nginx that answers with the client's address and port, large files, a UDP echo.

use std::fs::File;

use anyhow::Result;

use super::{ECHO_PORT, World};
use crate::load::echo::EchoServer;
use crate::peers::nginx;

/// Bytes of the file whose download spans a switch: about five seconds at the demo's rate.
const FILE_BYTES: u64 = 48 << 20;

/// Bytes of the file that no step downloads to its end.
const ENDLESS_FILE_BYTES: u64 = 8 << 30;

impl World {
    /// Starts nginx (HTTP/1 on port 80, HTTP/2 without TLS on port 81) and the echo.
    pub(super) fn start_services(&mut self) -> Result<()> {
        let internet = self.namespaces.internet.clone();
        self.echo = Some(EchoServer::start(&internet, ECHO_PORT)?);
        let root = self.path("www");
        std::fs::create_dir_all(root.join("put"))?;
        for (name, bytes) in [("file", FILE_BYTES), ("endless", ENDLESS_FILE_BYTES)] {
            File::create(root.join(name))?.set_len(bytes)?;
        }
        let offered = nginx::locations(&self.folder);
        let servers = format!("  server {{ listen 80; {offered}  }}\n  server {{ listen 81 http2; {offered}  }}");
        let nginx = nginx::start(&self.ledger, &internet, &self.folder, "nginx", &servers, 80)?;
        self.services.push(nginx);
        Ok(())
    }
}
