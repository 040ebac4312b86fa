//! The page in a real browser: headless Chromium against this manager, over TLS, with a fleet. `cargo xtask test --ui` says where
//! Node and Chromium are; without it these tests say SKIP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::page_fleet::WorldFleet;
use crate::support::*;
use serde_json::json;

/// How long all of it may take.
const TIME_MAX: Duration = Duration::from_secs(240);

/// A program that xtask names, or None with a word.
fn named(variable: &str) -> Option<PathBuf> {
    let program = std::env::var_os(variable).map(PathBuf::from);
    if program.is_none() {
        println!("SKIP: {variable} is not set: `cargo xtask test --ui` sets it");
    }
    program
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ui")
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_the_fleet_and_act_on_it_in_a_browser() {
    let (Some(node), Some(chromium)) = (named("PERSONA_NODE"), named("PERSONA_CHROMIUM")) else { return };
    let index = TestApp::new().await;
    let built = index.nobody.get(format!("{}/ui/", index.base)).send().await.unwrap().text().await.unwrap();
    assert!(built.contains("/ui/assets/"), "the page is not built in: `cargo xtask ui`");
    drop(index);

    let app = TestApp::with(|config| config.silent_after_ms = 10_000).await;
    let mut fleet = WorldFleet::begin(&app).await;
    let operator = app.access("olga", "operator").await;
    let answer =
        app.with_bearer(&operator).post(format!("{}/v1/web-links", app.base)).json(&json!({ "ttlMs": 600_000 }));
    let link: serde_json::Value = answer.send().await.unwrap().json().await.unwrap();
    let roots = app.store().with_file_name("roots.pem");
    std::fs::write(&roots, app.roots()).unwrap();
    let mut browser = tokio::process::Command::new(node);
    browser.current_dir(page()).arg("--test").arg("--test-reporter=spec").arg("tests/browser.test.mjs");
    browser.env("PERSONA_CHROMIUM", chromium).env("PERSONA_URL", &app.base).env("PERSONA_ROOTS", &roots);
    browser.env("PERSONA_LINK", link["urls"][0].as_str().unwrap());
    browser.env("PERSONA_ADMIN", app.access("ada", "admin").await);
    browser.env("PERSONA_VIEWER", app.access("vera", "viewer").await);
    let mut browser = browser.kill_on_drop(true).spawn().unwrap();
    let living = async {
        loop {
            fleet.turn().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let status = tokio::select! {
        ended = browser.wait() => ended.unwrap(),
        () = living => unreachable!("it goes on for ever"),
        () = tokio::time::sleep(TIME_MAX) => panic!("the browser is not done after {TIME_MAX:?}"),
    };
    assert!(status.success(), "what is wrong stands above");
}

/// The types in the tree are those of the time when the page last asked something new; what it asks must fit today's document.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_the_api_as_it_is() {
    let Some(node) = named("PERSONA_NODE") else { return };
    let app = TestApp::new().await;
    let document = app.store().with_file_name("openapi.json");
    std::fs::write(&document, app.get("/v1/openapi.json").await.to_string()).unwrap();
    let is_kept = std::env::var_os("PERSONA_KEEP_TYPES").is_some();
    let folder = page().join("node_modules/.persona");
    std::fs::create_dir_all(&folder).unwrap();
    let types = if is_kept { page().join("src/api/schema.ts") } else { folder.join("schema.ts") };
    let run = async |arguments: &[&Path]| {
        let status = tokio::process::Command::new(&node).current_dir(page()).args(arguments).status().await.unwrap();
        assert!(status.success(), "{arguments:?}: `cargo xtask ui --types` writes the types anew");
    };
    run(&[Path::new("tools/types.mjs"), &document, &types]).await;
    let (compiler, project) = (Path::new("node_modules/typescript/bin/tsc"), Path::new("tsconfig.live.json"));
    run(&[compiler, Path::new("--project"), project]).await;
}
