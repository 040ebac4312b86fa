//! What the internet host offers: nginx that answers with the client's address and port, large files, a UDP echo.

use std::fs::File;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{ECHO_PORT, World};
use crate::load::echo::EchoServer;
use crate::process::Running;

/// Bytes of the file whose download spans a switch: about five seconds at the demo's rate.
const FILE_BYTES: u64 = 48 << 20;

/// Bytes of the file that no step downloads to its end.
const ENDLESS_FILE_BYTES: u64 = 8 << 30;

/// How long nginx may take to listen.
const NGINX_START_TIME: Duration = Duration::from_secs(5);

impl World {
    /// Starts nginx and the echo.
    pub(super) fn start_services(&mut self) -> Result<()> {
        let internet = self.namespaces.internet.clone();
        self.echo = Some(EchoServer::start(&internet, ECHO_PORT)?);
        let root = self.path("www");
        std::fs::create_dir_all(&root)?;
        for (name, bytes) in [("file", FILE_BYTES), ("endless", ENDLESS_FILE_BYTES)] {
            File::create(root.join(name))?.set_len(bytes)?;
        }
        let config = self.path("nginx.conf");
        std::fs::write(&config, self.nginx_config())?;
        let (program, libraries) = find_nginx()?;
        let mut command = internet.command(&program.display().to_string())?;
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.arg("-c").arg(&config).arg("-p").arg(&self.folder).arg("-e").arg(self.path("nginx-errors.log"));
        let nginx = Running::start(&self.ledger, "nginx", &self.log_path("nginx"), command)?;
        self.services.push(nginx);
        let start = Instant::now();
        while internet.run_inside(|| TcpStream::connect("127.0.0.1:80"))?.is_err() {
            self.check_processes()?;
            if start.elapsed() > NGINX_START_TIME {
                bail!("nginx does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn nginx_config(&self) -> String {
        let folder = self.folder.display();
        format!(
            "daemon off; master_process off; user root; pid {folder}/nginx.pid;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n  access_log off;\n  sendfile on;\n  client_body_temp_path {folder}/nginx-body;\n  \
             proxy_temp_path {folder}/nginx-proxy;\n  fastcgi_temp_path {folder}/nginx-fastcgi;\n  \
             uwsgi_temp_path {folder}/nginx-uwsgi;\n  scgi_temp_path {folder}/nginx-scgi;\n  server {{\n    \
             listen 80;\n    root {folder}/www;\n    add_header X-Client \"$remote_addr $remote_port\";\n    \
             location = /whoami {{ return 200 \"$remote_addr $remote_port\\n\"; }}\n  }}\n}}\n"
        )
    }
}

/// The machine's nginx, or the one that `cargo xtask setup` unpacked into the cache, with its libraries' folders.
fn find_nginx() -> Result<(PathBuf, Option<String>)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    if let Some(folder) = folders.find(|folder: &PathBuf| folder.join("nginx").is_file()) {
        return Ok((folder.join("nginx"), None));
    }
    let cache = match (std::env::var_os("PERSONA_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache/persona"),
        (None, None) => bail!("nginx is not on PATH, and neither PERSONA_CACHE nor HOME says where the cache is"),
    };
    let root = cache.join("nginx");
    let program = root.join("usr/sbin/nginx");
    program.is_file().then_some(()).context("nginx is not found: run `cargo xtask setup`")?;
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = ["usr/lib", "lib"].map(|folder| root.join(folder).join(&machine).display().to_string());
    Ok((program, Some(folders.join(":"))))
}
