//! The back end against a scripted monitor that answers as QEMU 7.2 does.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;

/// What the guest behind the monitor is like.
#[derive(Debug, Default)]
struct Guest {
    balloon: Option<u64>,
    has_driver: bool,
    throttle: serde_json::Map<String, Value>,
    asked: Vec<String>,
}

fn start(path: &Path, guest: Guest) -> Arc<Mutex<Guest>> {
    let listener = UnixListener::bind(path).unwrap();
    let guest = Arc::new(Mutex::new(guest));
    let shared = Arc::clone(&guest);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            writeln!(stream, r#"{{"QMP": {{"version": {{}}, "capabilities": []}}}}"#).unwrap();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let Ok(line) = line else { break };
                let command: Value = serde_json::from_str(&line).unwrap();
                let answer = answer(&mut shared.lock().unwrap(), &command);
                writeln!(stream, r#"{{"event": "BALLOON_CHANGE", "data": {{}}}}"#).unwrap();
                writeln!(stream, "{answer}").unwrap();
            }
        }
    });
    guest
}

fn answer(guest: &mut Guest, command: &Value) -> Value {
    let name = command["execute"].as_str().unwrap();
    guest.asked.push(name.to_owned());
    match (name, guest.balloon) {
        ("query-balloon", Some(actual)) => json!({ "return": { "actual": actual } }),
        ("query-balloon", None) => {
            json!({ "error": { "class": "DeviceNotActive", "desc": "No balloon device has been activated" } })
        }
        ("balloon", Some(_)) => {
            if guest.has_driver {
                guest.balloon = command["arguments"]["value"].as_u64();
            }
            json!({ "return": {} })
        }
        ("query-block", _) => {
            let mut inserted = guest.throttle.clone();
            inserted.insert("file".into(), "disk.img".into());
            json!({ "return": [{ "device": "disk0", "inserted": inserted }, { "device": "cd0" }] })
        }
        ("block_set_io_throttle", _) => {
            guest.throttle = command["arguments"].as_object().unwrap().clone();
            json!({ "return": {} })
        }
        _ => json!({ "return": {} }),
    }
}

fn monitor(guest: Guest) -> (tempfile::TempDir, Arc<Mutex<Guest>>, QemuMonitor) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qmp");
    let guest = start(&path, guest);
    (folder, guest, QemuMonitor::new(path, Duration::from_millis(120)))
}

#[test]
fn throttles_and_balloon_are_set_and_asked_back() {
    let (_folder, guest, mut monitor) =
        monitor(Guest { balloon: Some(256 << 20), has_driver: true, ..Guest::default() });
    let (balloon, disk) = (Knob::new("balloon"), Knob::new("throttle@disk0"));
    let knobs = monitor.observe().unwrap();
    assert_eq!(knobs.keys().collect::<Vec<_>>(), [&balloon, &disk], "a drive without a medium has nothing to throttle");
    assert_eq!(knobs[&disk], "bps=0 bps_rd=0 bps_wr=0 iops=0 iops_rd=0 iops_wr=0");
    assert!(monitor.write(&balloon, "134217728").unwrap());
    assert_eq!(monitor.read(&balloon).unwrap().as_deref(), Some("134217728"));
    let value = "bps=0 bps_rd=1000000 bps_wr=0 iops=0 iops_rd=0 iops_wr=70";
    assert!(monitor.write(&disk, value).unwrap());
    assert_eq!(monitor.read(&disk).unwrap().as_deref(), Some(value));
    assert_eq!(guest.lock().unwrap().throttle["device"], "disk0");
    assert!(!monitor.write(&Knob::new("cpu.max"), "1").unwrap(), "the control group's, not the monitor's");
    assert!(monitor.identity().unwrap().contains(&format!("qemu={}/", std::process::id())));
}

#[test]
fn a_guest_without_a_driver_is_told_and_the_wish_is_taken_back() {
    let (_folder, guest, mut monitor) = monitor(Guest { balloon: Some(256 << 20), ..Guest::default() });
    let error = monitor.write(&Knob::new("balloon"), "134217728").unwrap_err().to_string();
    assert!(error.contains("virtio_balloon") && error.contains("268435456"), "{error}");
    let asked = guest.lock().unwrap().asked.clone();
    assert_eq!(asked.iter().filter(|name| *name == "balloon").count(), 2, "{asked:?}");
}

#[test]
fn what_is_not_there_is_no_knob_and_a_dead_socket_is_named() {
    let (folder, _guest, mut monitor) = monitor(Guest::default());
    assert_eq!(monitor.observe().unwrap().len(), 1);
    assert_eq!(monitor.read(&Knob::new("balloon")).unwrap(), None);
    let mut absent = QemuMonitor::new(folder.path().join("absent"), Duration::ZERO);
    let error = absent.observe().unwrap_err().to_string();
    assert!(error.contains("absent") && error.contains("-qmp unix:"), "{error}");
}
