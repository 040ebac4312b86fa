//! Coming in over TLS as a person does: a token, a login, contexts; and what becomes of tokens that are not good.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt as _;

mod world;

/// Somebody with a home directory of their own.
struct Person {
    home: PathBuf,
}

impl Person {
    async fn run(&self, line: &str, input: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_persona-ctl"));
        command.env_clear().env("HOME", &self.home).envs(variables.iter().copied()).args(line.split(' '));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut stdin = child.stdin.take().expect("it was asked for");
        stdin.write_all(input.as_bytes()).await.expect("the input is short");
        drop(stdin);
        child.wait_with_output().await.expect("it ends")
    }

    async fn text(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input, &[]).await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Exit code and standard error of a command that must fail.
    async fn refusal(&self, line: &str, input: &str) -> (Option<i32>, String) {
        let output = self.run(line, input, &[]).await;
        assert!(!output.status.success(), "{line} succeeded");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn home(directory: &Path, name: &str) -> Person {
    let home = directory.join(name);
    std::fs::create_dir(&home).expect("a directory can be made");
    Person { home }
}

#[test]
fn a_person_logs_in_and_may_do_what_the_token_says() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let (root, alice) = (home(directory.path(), "root"), home(directory.path(), "alice"));
    world::with_manager(|socket| async move {
        let line = format!("--manager {socket} access create --name alice --role viewer --ttl 1h");
        let token = root.text(&line, "").await;
        let secret = token.split(['.', '@']).nth(1).expect("ID.SECRET.PIN@URL");

        let told = alice.text("login", &token).await;
        assert!(told.contains("access/alice, viewer") && !told.contains(secret), "{told}");
        let contexts = alice.home.join(".config/persona/contexts.toml");
        assert_eq!(std::fs::metadata(&contexts).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert!(alice.text("status", "").await.contains("nodes"));
        let listed = alice.text("context list", "").await;
        assert!(listed.contains("https://127.0.0.1:") && !listed.contains(secret), "{listed}");
        let (code, why) = alice.refusal("node drain n1", "").await;
        assert!(code == Some(3) && why.contains("operator") && why.contains("access/alice"), "{why}");
        let (code, why) = alice.refusal("access list", "").await;
        assert!(code == Some(3) && why.contains("admin"), "{why}");

        let link = alice.text("ui --ttl 5m", "").await;
        assert!(link.starts_with("https://127.0.0.1:") && link.contains("/ui/login#"), "{link}");
        assert!(root.text(&format!("--manager {socket} ui list"), "").await.contains("nobody is at the page"));
        let (code, why) = alice.refusal("ui --ttl 1h", "").await;
        assert!(code == Some(3) && why.contains("ten minutes"), "{why}");

        // A program brings its token along, in a file that a variable names.
        let file = alice.home.join("token");
        std::fs::write(&file, &token).expect("a file can be written");
        let bare = home(&alice.home, "bare");
        let file = file.display().to_string();
        let output = bare.run("whoami", "", &[("PERSONA_TOKEN_FILE", &file)]).await;
        assert!(String::from_utf8_lossy(&output.stdout).contains("access/alice"), "{output:?}");

        let pin = token.split(['.', '@']).nth(2).expect("ID.SECRET.PIN@URL");
        let (code, why) = bare.refusal("login", &token.replace(pin, &"0a".repeat(32))).await;
        assert!(code == Some(1) && why.contains("pins"), "an impostor is found out before it sees the token: {why}");
        let (_, why) = bare.refusal("login", secret).await;
        assert!(!why.contains(secret), "{why}");

        let id = token.split('.').next().expect("ID.SECRET.PIN@URL");
        root.text(&format!("--manager {socket} access revoke {id}"), "").await;
        let (code, why) = alice.refusal("whoami", "").await;
        assert!(code == Some(3) && why.contains("revoked"), "{why}");
        alice.text("context remove default", "").await;
        assert!(alice.text("context list", "").await.contains("no contexts"));
        let (_, why) = alice.refusal("--context prod status", "").await;
        assert!(why.contains("there is no context prod"), "{why}");
    });
}

#[test]
fn a_manager_that_is_away_leaves_the_others_of_the_token() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let alice = home(directory.path(), "alice");
    world::with_manager(|socket| async move {
        let token = alice.text(&format!("--manager {socket} access create --name a --role operator"), "").await;
        // Nobody listens at port 1.
        let token = token.replace("@https://", "@https://127.0.0.1:1,https://");
        alice.text("login", &token).await;
        assert!(alice.text("status", "").await.contains("nodes"));
        assert!(alice.text("context list", "").await.contains("https://127.0.0.1:1,https://"));
        let why = alice.refusal("switch workload/n1/web x", "").await;
        assert_eq!(why.0, Some(3), "what is written goes there too: {}", why.1);
    });
}

#[test]
fn nobody_gets_in_without_a_token_and_nothing_is_said_to_a_stranger() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let nobody = home(directory.path(), "nobody");
    world::with_manager(|socket| async move {
        let state = Path::new(socket.trim_start_matches("unix:")).parent().expect("a socket lies in a directory");
        let token = nobody.text(&format!("--manager {socket} access create --name a --role viewer"), "").await;
        let url = token.trim().split('@').nth(1).expect("ID.SECRET.PIN@URL");
        let (code, why) = nobody.refusal(&format!("--manager {url} status"), "").await;
        assert!(code == Some(1) && why.contains("persona-ctl login"), "{why}");
        let roots = state.join("roots.pem");
        let (code, why) = nobody.refusal(&format!("--manager {url} --ca-file {} status", roots.display()), "").await;
        assert!(code == Some(3) && why.contains("access tokens with the role viewer"), "{why}");
    });
}

#[test]
fn contexts_and_tokens_outlive_a_rotation_and_a_context_takes_the_new_root() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let [root, alice, bob] = ["root", "alice", "bob"].map(|name| home(directory.path(), name));
    world::with_manager(|socket| async move {
        let mut tokens = Vec::new();
        for person in [&alice, &bob] {
            let token =
                root.text(&format!("--manager {socket} access create --name a --role viewer --ttl 1h"), "").await;
            person.text("login", &token).await;
            tokens.push(token);
        }
        let local = |line: &str| format!("--manager {socket} authority {line}");
        let (code, why) = root.refusal(&local("retire --reason none"), "").await;
        assert!(code == Some(1) && why.contains("authority rotate"), "{why}");
        let told = root.text(&local("rotate --reason yearly"), "").await;
        assert!(told.contains("signing") && told.contains("nobody: it can be retired"), "{told}");

        // Logged in before, by a root that signs no more: the token's pin leads in too.
        let output = alice.run("status", "", &[]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("root certificates have changed"), "{said}");
        assert!(alice.run("status", "", &[]).await.stderr.is_empty(), "it is said once");
        let (carol, file) = (home(&root.home, "carol"), root.home.join("token"));
        std::fs::write(&file, &tokens[1]).expect("a file can be written");
        let file = [("PERSONA_TOKEN_FILE", file.to_str().expect("a path of ours"))];
        assert!(carol.run("whoami", "", &file).await.status.success());

        root.text(&local("retire --reason yearly"), "").await;
        alice.text("status", "").await;
        assert!(root.text(&local("show"), "").await.contains("retired"));
        let (code, _) = bob.refusal("status", "").await;
        assert_eq!(code, Some(1), "who asked nothing in between logs in anew");
        let output = carol.run("whoami", "", &file).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("older than the manager's root"), "{said}");
    });
}

/// Runs a copy of the binary as nobody, who need not get into the folder that it was built in.
fn as_nobody(directory: &Path, socket: &str) -> (bool, String) {
    let copy = directory.join("persona-ctl");
    std::fs::copy(env!("CARGO_BIN_EXE_persona-ctl"), &copy).expect("the binary can be copied");
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(copy);
    let output = command.env_clear().current_dir("/").args(["--manager", socket, "status"]).output();
    let output = output.expect("setpriv is there");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn another_user_of_the_host_is_no_administrator_even_where_the_socket_is_open_to_all() {
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("it is mounted")) != 0 {
        assert!(std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_none(), "this takes root");
        println!("SKIP: to be somebody else takes root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode can be set");
    };
    open(directory.path(), 0o755);
    world::with_manager(|socket| async move {
        let path = PathBuf::from(socket.trim_start_matches("unix:"));
        let (is_let_in, told) = as_nobody(directory.path(), &socket);
        assert!(!is_let_in && told.contains("ermission denied"), "{told}");
        // Whoever opens the folder and the socket by mistake lets people knock.
        let state = path.parent().expect("a folder");
        [state, state.parent().expect("a folder")].into_iter().for_each(|folder| open(folder, 0o755));
        open(&path, 0o666);
        let (is_let_in, told) = as_nobody(directory.path(), &socket);
        assert!(!is_let_in && told.contains("token"), "{told}");
    });
}
