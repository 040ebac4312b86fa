//! A real manager in the test's process, on loopback and a store of its own, asked over its own socket.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Runs a test with the URL of a fresh manager's socket, which knows this process as an administrator, and stops the manager in good order.
pub(crate) fn with_manager<F: Future<Output = ()>>(test: impl FnOnce(String) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let dir = tempfile::tempdir().expect("a directory can be made");
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let config = persona_manager::Config { store: dir.path().join("store.sqlite").into(), ..Default::default() };
        let manager = persona_manager::start(config, listener, stop.clone()).await.expect("the manager starts");
        test(format!("unix:{}", dir.path().join("store.state/admin.sock").display())).await;
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), manager.stopped()).await.expect("the manager stops");
    });
}
