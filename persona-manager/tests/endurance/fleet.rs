//! What several managers over one store have in common: the key of the CA, and the first administrator.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::*;
use serde_json::json;

/// A manager that was started must answer within this time.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// Waits until a manager listens on the socket in its state directory, and makes an administrator's access token. Returns
/// the roots and the bearer.
pub(crate) async fn first_access(state: &Path) -> (String, String) {
    let deadline = Instant::now() + START_TIME_MAX;
    loop {
        if let Ok(roots) = std::fs::read_to_string(state.join("roots.pem")) {
            let socket = client_builder(&roots).unix_socket(state.join("admin.sock")).build().unwrap();
            let body = json!({ "name": "test", "role": "admin", "ttlMs": 3_600_000 });
            let answer = socket.post("http://localhost/v1/access-tokens").json(&body).send().await;
            if let Ok(answer) = answer
                && answer.status() == 201
            {
                return (roots, bearer_of(&answer.json().await.unwrap()));
            }
        }
        assert!(Instant::now() < deadline, "no manager answers on {}", state.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Gives another manager the key of the CA, as an operator does.
pub(crate) fn copy_key(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "key") {
            std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
}
