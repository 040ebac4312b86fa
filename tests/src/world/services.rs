//! What the internet host offers: nginx that answers with the client's address and port, large files, a UDP echo.

use std::fs::File;
use std::net::Ipv6Addr;

use anyhow::Result;

use super::{ECHO_PORT, Families, INTERNET_ADDRESS6, World};
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
        self.echoes.push(EchoServer::start(&internet, ([0, 0, 0, 0], ECHO_PORT).into())?);
        if self.families != Families::Ipv4 {
            let address: Ipv6Addr = INTERNET_ADDRESS6.parse()?;
            self.echoes.push(EchoServer::start(&internet, (address, ECHO_PORT).into())?);
        }
        let root = self.path("www");
        std::fs::create_dir_all(root.join("put"))?;
        for (name, bytes) in [("file", FILE_BYTES), ("endless", ENDLESS_FILE_BYTES)] {
            File::create(root.join(name))?.set_len(bytes)?;
        }
        let offered = nginx::locations(&self.folder);
        let listen6 = if self.families == Families::Ipv4 { "" } else { "listen [::]:80;" };
        let servers =
            format!("  server {{ listen 80; {listen6} {offered}  }}\n  server {{ listen 81 http2; {offered}  }}");
        let nginx = nginx::start(&self.ledger, &internet, &self.folder, "nginx", &servers, 80)?;
        self.services.push(nginx);
        Ok(())
    }
}
