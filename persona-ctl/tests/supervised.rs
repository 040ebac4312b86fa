//! The real manager under a service manager of the test's own: what it tells, when, and when it tells nothing.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// A message that does not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A manager whose `NOTIFY_SOCKET` is the test's.
struct Supervised {
    child: Child,
    socket: UnixDatagram,
}

impl Supervised {
    fn start(dir: &Path, watchdog: Duration) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket can be made");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time can be set");
        let mut command = Command::new(env!("CARGO_BIN_EXE_persona-ctl"));
        command.args(["manager", "--listen", "127.0.0.1:0", "--store"]).arg(dir.join("store.sqlite"));
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        Self { child: command.env_remove("WATCHDOG_PID").spawn().expect("the binary starts"), socket }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4_096];
        let length = self.socket.recv(&mut buffer).expect("the manager says something");
        String::from_utf8(buffer[..length].to_vec()).expect("it is text")
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{name}");
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.child.kill().ok(); // it has ended where the test went well
        self.child.wait().ok();
    }
}

#[test]
fn a_manager_is_ready_once_it_serves_beats_while_it_turns_and_says_that_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut manager = Supervised::start(dir.path(), Duration::from_secs(2));
    let first = manager.next();
    assert!(first.contains("READY=1\n") && first.contains("WATCHDOG=1\n"), "{first}");
    let status = first.lines().find_map(|line| line.strip_prefix("STATUS=")).expect("a status is told");
    let address = status.strip_prefix("listens on ").and_then(|rest| rest.split(',').next()).expect("an address");
    std::net::TcpStream::connect(address).expect("it serves what it says");
    assert!(status.ends_with("makes changes"), "{status}");
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1\n");
    }
    manager.signal("TERM");
    let told: Vec<String> = std::iter::repeat_with(|| manager.next()).take_while(|it| it != "STOPPING=1\n").collect();
    assert!(told.iter().all(|it| it == "WATCHDOG=1\n"), "{told:?}");
    assert!(manager.child.wait().unwrap().success());
}

#[test]
fn a_manager_that_stands_still_does_not_beat() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Supervised::start(dir.path(), Duration::from_secs(1));
    assert!(manager.next().contains("READY=1\n"));
    manager.signal("STOP");
    manager.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut buffer = [0; 64];
    // What was on its way when it was stopped may come yet.
    let late = std::iter::repeat_with(|| manager.socket.recv(&mut buffer)).take_while(Result::is_ok).take(10).count();
    assert!(late < 10, "it goes on beating");
    manager.signal("CONT");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(manager.next(), "WATCHDOG=1\n");
}
