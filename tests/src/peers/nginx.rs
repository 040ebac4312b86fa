//! nginx as a peer: a configuration of its own in the world's folder, in the foreground, one process.

use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::ctl::patient;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;

/// How long nginx may take to listen.
const START_TIME: Duration = Duration::from_secs(10);

/// Starts one named `name` with these `server` blocks and waits until `port` of its own host answers.
pub fn start(
    ledger: &Ledger,
    inside: &Namespace,
    folder: &Path,
    name: &str,
    servers: &str,
    port: u16,
) -> Result<Running> {
    let config = folder.join(format!("{name}.conf"));
    std::fs::write(&config, config_text(folder, name, servers))
        .with_context(|| format!("{} cannot be written", config.display()))?;
    let mut command = Program::find("nginx", "usr/sbin/nginx")?.command(inside)?;
    command.arg("-c").arg(&config).arg("-p").arg(folder).arg("-e").arg(folder.join(format!("{name}-errors.log")));
    let mut nginx = Running::start(ledger, name, &folder.join(format!("{name}.log")), command)?;
    let start = Instant::now();
    while inside.run_inside(|| TcpStream::connect(("127.0.0.1", port)))?.is_err() {
        nginx.check()?;
        if start.elapsed() > patient(START_TIME) {
            bail!("{name} does not listen on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(nginx)
}

/// What every server of ours offers: files, PUT under `/put/`, who the client is, on every answer too.
pub fn locations(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "root {folder}/www; client_max_body_size 0;\n    \
         add_header X-Client \"$remote_addr $remote_port\" always;\n    \
         location = /whoami {{ return 200 \"$remote_addr $remote_port\\n\"; }}\n    \
         location /put/ {{ dav_methods PUT; }}\n"
    )
}

fn config_text(folder: &Path, name: &str, servers: &str) -> String {
    let base = folder.join(name);
    let base = base.display();
    format!(
        "daemon off; master_process off; user root; pid {base}.pid;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  client_body_temp_path {base}-body;\n  \
         proxy_temp_path {base}-proxy;\n  fastcgi_temp_path {base}-fastcgi;\n  \
         uwsgi_temp_path {base}-uwsgi;\n  scgi_temp_path {base}-scgi;\n{servers}\n}}\n"
    )
}
