//! A client and the helper, over a real socket: what is done, and all that is refused.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use super::super::serve::serve;
use super::super::verb::FRAME_BYTES_MAX;
use super::*;

/// A helper over a folder that has an agent's configuration; it serves until the process ends.
struct Place {
    folder: tempfile::TempDir,
    socket: PathBuf,
}

impl Place {
    fn new(workload: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (config, socket) = (folder.path().join("agent.toml"), folder.path().join("helper.sock"));
        let workload = workload.replace("HERE", folder.path().to_str().unwrap());
        std::fs::write(&config, format!("[[workload]]\nname = 'web'\n{workload}\n")).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || serve(&listener, &Bounds::Configured(config)));
        Self { folder, socket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, verb: Verb) -> io::Result<(Answer, Option<OwnedFd>)> {
        ask_at(&self.socket, &verb, None)
    }

    fn refusal(&self, verb: Verb) -> String {
        let told = format!("{verb:?}");
        self.ask(verb).map(|(answer, _)| answer).expect_err(&told).to_string()
    }

    /// What a client gets that writes these bytes. Nothing: the helper hung up.
    fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(bytes).unwrap();
        // Half closed, so that nobody waits for more.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // A reset is a way to hang up.
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    fn framed(&self, verb: &Value) -> Vec<u8> {
        let text = verb.to_string();
        self.raw(&[&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat())
    }
}

#[test]
fn what_the_configuration_names_is_done_and_handed_over() {
    let place = Place::new("qmp = 'HERE/web.qmp'\ngai_conf = 'HERE/gai.conf'\ndevice = 'veth'\naddress = '10.0.0.2'");
    let monitor = UnixListener::bind(place.path("web.qmp")).unwrap();
    let handed = handed(place.ask(Verb::ConnectMonitor { path: place.path("web.qmp") }).unwrap()).unwrap();
    monitor.accept().unwrap().0.write_all(b"hello").unwrap();
    let mut text = [0; 5];
    UnixStream::from(handed).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
    let prefixes = vec![("fd00::".parse().unwrap(), 64)];
    let verb = Verb::KeepAddressPolicy { path: place.path("gai.conf"), prefixes };
    assert_eq!(place.ask(verb.clone()).unwrap().0, Answer::Changed(true));
    assert_eq!(place.ask(verb).unwrap().0, Answer::Changed(false));
    assert!(std::fs::read_to_string(place.path("gai.conf")).unwrap().contains("fd00::/64"));
}

#[test]
fn the_kernels_reason_comes_back_by_number() {
    let place = Place::new("oci_state = 'HERE/state.json'");
    let verb = Verb::FirstProcess { state: place.path("state.json") };
    assert_eq!(place.ask(verb.clone()).unwrap_err().kind(), io::ErrorKind::NotFound);
    std::fs::write(place.path("state.json"), r#"{"init_process_pid": 17}"#).unwrap();
    assert_eq!(place.ask(verb).unwrap().0, Answer::Process(17));
}

#[test]
fn nothing_else_than_the_configuration_names_is_opened() {
    let place = Place::new("container = 'web'\ndocker_socket = 'HERE/docker.sock'");
    std::fs::write(place.path("secret"), r#"{"pid": 1}"#).unwrap();
    let secret = || place.path("secret");
    let engine = || place.path("docker.sock");
    for verb in [
        Verb::ConnectMonitor { path: engine() },
        Verb::ConnectMonitor { path: place.path("helper.sock") },
        Verb::InspectContainer { socket: engine(), name: "db".to_owned() },
        Verb::InspectContainer { socket: engine(), name: "web/../../images".to_owned() },
        Verb::InspectContainer { socket: secret(), name: "web".to_owned() },
        Verb::FirstProcess { state: secret() },
        Verb::KeepAddressPolicy { path: secret(), prefixes: Vec::new() },
        Verb::ReadJoinToken { path: secret() },
        Verb::OpenNamespace { path: secret() },
        Verb::OpenNamespace { path: "/proc/1/ns/../root/etc/shadow".into() },
        Verb::OpenNamespace { path: "/proc/1/ns/mnt".into() },
        Verb::NamespaceBehind { id: -1, hint: Some(secret()) },
        Verb::SocketInside { kind: SocketKind::Route },
        Verb::AllowIpv6 { interface: "../../kernel/core_pattern".to_owned() },
        Verb::OpenRoot { pid: 0 },
        Verb::SetUnitLimit { unit: "sshd.service".to_owned(), knob: Knob::new("cpu.max"), value: "1 2".to_owned() },
        Verb::OpenRoot { pid: u32::MAX },
        Verb::DescribeProgram { id: u32::MAX },
        Verb::DetachLink { id: u32::MAX },
        Verb::DetachProgram { ifindex: u32::MAX, is_egress: true, id: u32::MAX },
    ] {
        place.refusal(verb);
    }
    assert_eq!(std::fs::read_to_string(secret()).unwrap(), r#"{"pid": 1}"#, "nothing was written");
}

#[test]
fn only_limits_of_control_groups_are_written() {
    let place = Place::new("limit_cgroup = '/web'");
    std::fs::write(place.path("cpu.max"), "max").unwrap();
    std::os::unix::fs::symlink("/", place.path("link")).unwrap();
    let verb = |folder: PathBuf, file: &str, text: &str| {
        place.refusal(Verb::WriteKnob { folder, file: file.to_owned(), text: text.to_owned() })
    };
    let folder = || place.folder.path().to_owned();
    assert!(verb(folder(), "cpu.max", "1 2").contains("no tree of control groups"));
    assert!(verb("/sys/fs/cgroup/../../../etc".into(), "cpu.max", "1").contains("no tree of control groups"));
    assert!(verb("/sys/fs/cgroup".into(), "cpu.max", "1").contains("no tree of control groups"), "nobody's own");
    verb(place.path("link/sys/fs/cgroup/x"), "cpu.max", "1");
    for file in ["cgroup.procs", "release_agent", "../cpu.max", "devices.allow", "memory.force_empty"] {
        assert!(verb("/sys/fs/cgroup/web".into(), file, "1").contains("no limit"), "{file}");
    }
    assert!(verb("/sys/fs/cgroup/web".into(), "cpu.max", "1\n2").contains("one short line"));
    assert!(verb("/sys/fs/cgroup/web".into(), "cpu.max", &"9".repeat(300)).contains("one short line"));
    assert_eq!(std::fs::read_to_string(place.path("cpu.max")).unwrap(), "max");
}

#[test]
fn what_is_no_request_is_not_answered() {
    let place = Place::new("limit_cgroup = '/web'");
    for bytes in [&b""[..], b"\0", b"\0\0\0\x05{}", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff"] {
        assert_eq!(place.raw(bytes), b"", "{bytes:?}");
    }
    let long = [&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes()[..], &vec![b' '; FRAME_BYTES_MAX + 1]].concat();
    assert_eq!(place.raw(&long), b"");
    for verb in [
        json!("run-program"),
        json!({ "run-program": { "path": "/bin/sh" } }),
        json!({ "open-root": { "pid": 1, "path": "/etc" } }),
        json!({ "open-root": { "pid": "1" } }),
        json!({ "open-root": {}, "detach-link": { "id": 1 } }),
        json!([]),
    ] {
        assert_eq!(place.framed(&verb), b"", "{verb}");
    }
    let deep = "[".repeat(FRAME_BYTES_MAX - 10);
    assert_eq!(place.raw(&[&(deep.len() as u32).to_be_bytes()[..], deep.as_bytes()].concat()), b"");
    assert!(!place.framed(&json!({ "open-root": { "pid": 0 } })).is_empty(), "and it still answers");
}

#[test]
fn descriptors_beyond_the_first_are_refused() {
    let (one, mut other) = UnixStream::pair().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut space);
    let stdin = std::io::stdin();
    let both = [stdin.as_fd(), stdin.as_fd()];
    ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&both));
    let bytes = [io::IoSlice::new(b"\0\0\0\x02{}")];
    rustix::net::sendmsg(&one, &bytes, &mut ancillary, rustix::net::SendFlags::empty()).unwrap();
    let error = frame::receive::<Value>(&mut other).unwrap_err();
    assert!(error.to_string().contains("2 descriptors"), "{error}");
    let (mut one, mut other) = UnixStream::pair().unwrap();
    frame::send(&mut one, &json!({}), Some(stdin.as_fd())).unwrap();
    assert!(frame::receive::<Value>(&mut other).unwrap().1.is_some());
}
