//! Whether anything goes on in a connection: a request counts until the last byte of its answer is taken.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::Instant;

/// What goes on.
#[derive(Debug, Clone, Copy)]
struct State {
    open_count: usize,
    /// When the last one ended, or the connection began.
    since: Instant,
    had_any: bool,
}

/// Counts what goes on in one connection.
#[derive(Debug, Clone)]
pub(super) struct Activity(watch::Sender<State>);

impl Activity {
    /// Of a connection that begins now.
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(State { open_count: 0, since: Instant::now(), had_any: false }))
    }

    /// A request has come; it is over when what this returns is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.0.send_modify(|state| {
            state.open_count += 1;
            state.had_any = true;
        });
        Busy(self.clone())
    }

    /// Waits until nothing goes on for too long: before the first request, or after one.
    pub(super) async fn idle(&self, before_first: Duration, between: Duration) {
        let mut states = self.0.subscribe();
        loop {
            let state = *states.borrow_and_update();
            let end = state.since + if state.had_any { between } else { before_first };
            tokio::select! {
                () = tokio::time::sleep_until(end), if state.open_count == 0 => return,
                // It fails only when the sender is gone, which is held here.
                _ = states.changed() => {}
            }
        }
    }
}

/// A request that goes on.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| {
            state.open_count -= 1;
            state.since = Instant::now();
        });
    }
}

/// The body of an answer, which holds its request open.
pub(super) struct HeldOpen {
    body: Body,
    _busy: Busy,
}

impl HeldOpen {
    pub(super) fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for HeldOpen {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(40);
    const BETWEEN: Duration = Duration::from_millis(120);

    #[tokio::test]
    async fn a_connection_is_idle_only_while_no_request_is_open() {
        let (activity, begun) = (Activity::new(), Instant::now());
        activity.idle(FIRST, BETWEEN).await;
        assert!(begun.elapsed() >= FIRST);
        let (activity, begun) = (Activity::new(), Instant::now());
        let busy = activity.begin();
        let idle = activity.idle(FIRST, BETWEEN);
        let work = async {
            tokio::time::sleep(2 * BETWEEN).await;
            drop(busy);
        };
        tokio::join!(idle, work);
        assert!(begun.elapsed() >= 3 * BETWEEN, "{:?}", begun.elapsed());
    }
}
