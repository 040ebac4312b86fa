//! Processes that tests start: this very binary, told by a variable which part to play.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a child that allocates holds at least and at most, MiB.
pub(super) const LIVE_MIB: (usize, usize) = (8, 48);

/// How long it holds what it has.
const HOLD_TIME: Duration = Duration::from_millis(15);

/// Starts this binary again to play one ignored test, with variables.
pub(super) fn start(test: &str, variables: &[(&str, String)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    // Every larger block is a mapping of its own, so that freed memory is the kernel's again at once.
    command.env("MALLOC_MMAP_THRESHOLD_", "65536").envs(variables.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// Starts a child that waits for [`go`], then allocates and frees for ever.
pub(super) fn allocator() -> Child {
    start("limits::child::allocate", &[("PERSONA_TEST_ALLOCATE", "yes".into())])
}

/// Lets a child go on.
pub(super) fn go(child: &mut Child) {
    writeln!(child.stdin.as_mut().unwrap(), "go").unwrap();
}

#[test]
#[ignore = "a process that other tests start"]
fn allocate() {
    if std::env::var_os("PERSONA_TEST_ALLOCATE").is_none() {
        return;
    }
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let (least, most) = LIVE_MIB;
    let mut dice = 12_345_usize;
    loop {
        // The most in every third round, so that what it needs shows itself often.
        for share in [dice % 100, 100, dice % 37] {
            let mib = least + (most - least) * share / 100;
            let held: Vec<Vec<u8>> = (0..mib).map(|_| vec![1; 1 << 20]).collect();
            std::thread::sleep(HOLD_TIME);
            drop(held);
            dice = dice.wrapping_mul(1_103_515_245).wrapping_add(12_345) >> 3;
        }
    }
}
