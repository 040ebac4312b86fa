//! Follows far ends that change their keys, for the kernel's device: there a far end's address belongs to one key at a time,
//! so it has to go over to the next key as soon as that is used.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::kernel::{Known, known, move_address};
use super::{FarEnd, PublicKey};

/// The device is looked at this often while a change is under way: for so long at most, packets under the next key are lost.
const LOOK: Duration = Duration::from_millis(5);
/// And this often when it takes longer than a change does: a far end is away.
const LATE_LOOK: Duration = Duration::from_millis(200);
const USUAL_TIME: Duration = Duration::from_secs(60);

/// A thread that looks until all next keys are in use. Dropping it ends it.
pub(super) struct Change {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Change {
    /// Follows the far ends of a device that change their keys; None: none does.
    pub(super) fn follow(ifindex: u32, far_ends: &[FarEnd], known: &[Known]) -> io::Result<Option<Self>> {
        let changing = far_ends.iter().filter_map(|far_end| Some((*far_end, far_end.next?)));
        let changing: Vec<(FarEnd, PublicKey)> = changing.filter(|(_, next)| !is_used(next, known)).collect();
        if changing.is_empty() {
            return Ok(None);
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("persona-wire-key".into()).spawn({
            let is_over = Arc::clone(&is_over);
            move || run(ifindex, changing, &is_over)
        })?;
        Ok(Some(Self { is_over, thread: Some(thread) }))
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that follows far ends' keys had panicked");
        }
    }
}

fn run(ifindex: u32, mut changing: Vec<(FarEnd, PublicKey)>, is_over: &AtomicBool) {
    let start = Instant::now();
    while !changing.is_empty() && !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(if start.elapsed() < USUAL_TIME { LOOK } else { LATE_LOOK });
        // A device that is gone has no far ends; whoever makes another one ends this.
        let known = known(ifindex).unwrap_or_default();
        changing.retain(|(far_end, next)| {
            let moves = is_used(next, &known);
            if moves && let Err(error) = move_address(ifindex, far_end, *next) {
                tracing::warn!(address = %far_end.address, %error, "a far end's next key did not get its address");
                return true;
            }
            !moves
        });
    }
}

fn is_used(key: &PublicKey, known: &[Known]) -> bool {
    known.iter().any(|it| it.key == key.0 && !it.handshake.is_zero())
}
