//! The real binary, server and client, as a user runs them. Every test has a server of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use http::Method;
use serde_json::{Value, json};
use testkit::{NODE_ECHO, Options, PYTHON_ECHO, Server};

const BINARY: &str = env!("CARGO_BIN_EXE_firn");

/// A server, or nothing (said loudly) where the kernel lacks what sandboxes need.
fn start(options: Options) -> Option<Server> {
    match Server::start(Path::new(BINARY), options) {
        Ok(server) => Some(server),
        Err(err) if err.to_string().contains("cannot prepare sandboxes") => {
            eprintln!("SKIPPED: this machine cannot run sandboxes: {err}");
            None
        }
        Err(err) => panic!("{err:#}"),
    }
}

/// A client command without the environment of whoever runs the tests.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args);
    for name in [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ] {
        command.env_remove(name);
    }
    for name in [
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "FIRN_ENDPOINT",
    ] {
        command.env_remove(name);
    }
    command
}

fn firn(server: &Server, args: &[&str]) -> Output {
    command(args)
        .env("FIRN_ENDPOINT", server.endpoint())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed and gives its standard output.
fn ok(server: &Server, args: &[&str]) -> String {
    let output = firn(server, args);
    assert!(
        output.status.success(),
        "{args:?}: {}\n{}",
        stderr(&output),
        server.log()
    );
    stdout(&output)
}

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sources");
    std::fs::create_dir(&path).unwrap();
    for (name, text) in files {
        std::fs::write(path.join(name), text).unwrap();
    }
    (dir, path)
}

fn deploy(server: &Server, name: &str, files: &[(&str, &str)], flags: &[&str]) -> String {
    let (_dir, path) = folder(files);
    let mut args = vec!["deploy", path.to_str().unwrap(), "--name", name];
    args.extend(flags);
    ok(server, &args)
}

#[tokio::test]
async fn server_says_when_it_is_ready_and_stops_when_asked() {
    let Some(server) = start(Options::default()) else {
        return;
    };
    let health = server
        .call(Method::GET, "/_firn/health", &[], "")
        .await
        .unwrap();
    assert_eq!(health.json().unwrap()["status"], "ok");
    assert!(server.stop().unwrap().success());
}

#[test]
fn python_function_is_deployed_called_read_and_deleted() {
    let Some(server) = start(Options::default()) else {
        return;
    };
    let text = "def handler(event, context):\n    print('seen', event['n'])\n    return event\n";
    let deployed = deploy(&server, "echo", &[("app.py", text)], &["--memory", "256"]);
    assert!(deployed.contains("created echo (python3."), "{deployed}");
    assert!(deployed.contains("app.handler, 256 MB"), "{deployed}");

    let output = firn(&server, &["invoke", "echo", "-p", "{\"n\": 7}", "--tail"]);
    assert_eq!(stdout(&output), "{\"n\": 7}\n");
    assert!(stderr(&output).contains("seen 7\n"), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("REPORT RequestId: "),
        "{}",
        stderr(&output)
    );

    let log = ok(&server, &["logs", "echo"]);
    assert!(log.contains("seen 7"), "{log}");
    assert!(
        log.lines()
            .any(|line| line.starts_with("START RequestId: ")),
        "{log}"
    );
    let list = ok(&server, &["functions"]);
    assert!(list.starts_with("echo\tpython3."), "{list}");
    let shown: Value =
        serde_json::from_str(&ok(&server, &["functions", "show", "echo", "--json"])).unwrap();
    assert_eq!(shown["Configuration"]["MemorySize"], 256);

    assert_eq!(
        firn(&server, &["delete", "echo"]).status.code(),
        Some(2),
        "nobody is asked"
    );
    ok(&server, &["delete", "echo", "--yes"]);
    let gone = firn(&server, &["invoke", "echo"]);
    assert_eq!(gone.status.code(), Some(3));
    assert!(
        stderr(&gone).contains("ResourceNotFoundException"),
        "{}",
        stderr(&gone)
    );
}

#[test]
fn node_and_custom_runtimes_are_recognised() {
    let Some(server) = start(Options::default()) else {
        return;
    };
    let deployed = deploy(&server, "node", &[("index.mjs", NODE_ECHO)], &[]);
    assert!(deployed.contains("nodejs"), "{deployed}");
    assert_eq!(ok(&server, &["invoke", "node", "-p", "[1,2]"]), "[1,2]\n");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello-shell");
    let deployed = ok(&server, &["deploy", example.to_str().unwrap()]);
    assert!(
        deployed.contains("created hello-shell (provided.al2023, bootstrap"),
        "{deployed}"
    );
    let answer: Value =
        serde_json::from_str(&ok(&server, &["invoke", "hello-shell", "-p", "5"])).unwrap();
    assert_eq!(answer["youSent"], 5);
}

#[test]
fn failing_function_is_exit_code_one_with_its_message() {
    let Some(server) = start(Options::default()) else {
        return;
    };
    let text = "def handler(event, context):\n    raise ValueError('no such colour')\n";
    deploy(&server, "fails", &[("app.py", text)], &[]);
    let output = firn(&server, &["invoke", "fails"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("ValueError: no such colour"),
        "{}",
        stderr(&output)
    );
    let payload: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(payload["errorType"], "ValueError");
    let output = firn(&server, &["invoke", "fails", "--json"]);
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(document["FunctionError"], "Unhandled");
    assert_eq!(document["StatusCode"], 200);
}

#[test]
fn second_deploy_updates_and_keeps_what_no_flag_names() {
    let Some(server) = start(Options::default()) else {
        return;
    };
    deploy(
        &server,
        "f",
        &[("app.py", PYTHON_ECHO)],
        &["--memory", "512", "--env", "COLOUR=red"],
    );
    let changed = "import os\ndef handler(event, context):\n    return os.environ['COLOUR']\n";
    let deployed = deploy(&server, "f", &[("app.py", changed)], &["--alias", "live"]);
    assert!(
        deployed.contains("published version 1, alias live points at it"),
        "{deployed}"
    );
    assert!(deployed.contains("updated f"), "{deployed}");
    assert!(deployed.contains("512 MB"), "{deployed}");
    assert_eq!(
        ok(&server, &["invoke", "f", "--qualifier", "live"]),
        "\"red\"\n"
    );
    deploy(&server, "f", &[("app.py", PYTHON_ECHO)], &[]);
    assert_eq!(
        ok(&server, &["invoke", "f:live"]),
        "\"red\"\n",
        "the version did not change"
    );
    assert_eq!(ok(&server, &["invoke", "f"]), "{}\n");
}

#[test]
fn enforcing_server_wants_a_key() {
    let flags = ["--auth", "enforce"].map(str::to_owned).to_vec();
    let Some(server) = start(Options {
        flags,
        ..Options::default()
    }) else {
        return;
    };
    let refused = firn(&server, &["functions"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        stderr(&refused).contains("UnrecognizedClientException"),
        "{}",
        stderr(&refused)
    );

    let data = server.data().to_str().unwrap();
    let args = [
        "keys",
        "create",
        "--account",
        "123456789012",
        "--data",
        data,
        "--json",
    ];
    let key: Value = serde_json::from_str(&ok(&server, &args)).unwrap();
    let (id, secret) = (
        key["AccessKeyId"].as_str().unwrap(),
        &key["SecretAccessKey"],
    );
    let signed = |secret: &str| {
        command(&["functions", "--json"])
            .env("FIRN_ENDPOINT", server.endpoint())
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .output()
            .unwrap()
    };
    // The server looks at the file at most once a second.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !signed(secret.as_str().unwrap()).status.success() {
        assert!(
            std::time::Instant::now() < deadline,
            "the new key is never seen"
        );
    }
    let forged = signed("wrong");
    assert_eq!(forged.status.code(), Some(3));
    assert!(
        stderr(&forged).contains("InvalidSignatureException"),
        "{}",
        stderr(&forged)
    );
}

#[test]
fn functions_survive_a_power_failure() {
    let data = tempfile::tempdir().unwrap();
    let options = || Options {
        data: Some(data.path().to_owned()),
        ..Options::default()
    };
    let Some(server) = start(options()) else {
        return;
    };
    deploy(&server, "kept", &[("app.py", PYTHON_ECHO)], &[]);
    let before = ok(&server, &["functions", "--json"]);
    server.kill().unwrap();

    let server = start(options()).unwrap();
    assert_eq!(ok(&server, &["functions", "--json"]), before);
    assert_eq!(ok(&server, &["invoke", "kept", "-p", "1"]), "1\n");
}

#[tokio::test]
async fn running_invocation_finishes_when_the_server_is_asked_to_stop() {
    let Some(server) = start(Options::default()) else {
        return;
    };
    let text = "import time\n\ndef handler(event, context):\n    \
                print('begun', flush=True)\n    time.sleep(1.5)\n    return 'done'\n";
    let (_dir, path) = folder(&[("app.py", text)]);
    let path = path.to_str().unwrap().to_owned();
    ok(
        &server,
        &["deploy", &path, "--name", "slow", "--timeout", "10"],
    );
    let endpoint = server.endpoint().to_owned();
    let call = tokio::task::spawn_blocking(move || {
        command(&["invoke", "slow"])
            .env("FIRN_ENDPOINT", endpoint)
            .output()
            .unwrap()
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !stdout(&firn(&server, &["logs", "slow"])).contains("begun") {
        assert!(
            std::time::Instant::now() < deadline,
            "the invocation does not begin"
        );
    }
    let stopped = tokio::task::spawn_blocking(move || server.stop());
    assert_eq!(stdout(&call.await.unwrap()), "\"done\"\n");
    assert!(stopped.await.unwrap().unwrap().success());
}

#[tokio::test]
async fn raw_requests_get_the_answers_of_aws() {
    let Some(server) = start(Options::default()) else {
        return;
    };
    let path = "/2015-03-31/functions/none/invocations";
    let answer = server.call(Method::POST, path, &[], "{}").await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.header("x-amzn-errortype"),
        "ResourceNotFoundException"
    );
    assert!(!answer.header("x-amzn-requestid").is_empty());
    let zip = testkit::zip(&[("app.py", PYTHON_ECHO)]);
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, zip);
    let input = json!({
        "FunctionName": "raw",
        "Runtime": "python3.13",
        "Handler": "app.handler",
        "Role": "arn:aws:iam::000000000000:role/r",
        "Code": { "ZipFile": encoded },
    });
    let created = server
        .call(
            Method::POST,
            "/2015-03-31/functions",
            &[],
            input.to_string(),
        )
        .await
        .unwrap();
    assert_eq!(created.status, 201, "{:?}", created.json());
}

#[test]
fn mistakes_have_exit_codes_and_advice() {
    let nobody = command(&["functions", "--endpoint", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(4));
    assert!(
        stderr(&nobody).contains("is `firn serve` running?"),
        "{}",
        stderr(&nobody)
    );

    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("firn.toml");
    std::fs::write(&config, "[invoker]\nidle_timeout = 5\n").unwrap();
    let args = ["config", "show", "--config", config.to_str().unwrap()];
    let unknown_key = command(&args).output().unwrap();
    assert_eq!(unknown_key.status.code(), Some(2));
    assert!(stderr(&unknown_key).contains("unknown key invoker.idle_timeout"));

    assert_eq!(
        command(&["nonsense"]).output().unwrap().status.code(),
        Some(2)
    );
    let not_json = command(&["invoke", "f", "-p", "{a"]).output().unwrap();
    assert_eq!(not_json.status.code(), Some(2));
    let no_source = command(&["deploy", "/nowhere"]).output().unwrap();
    assert_eq!(no_source.status.code(), Some(2));
}

#[test]
fn completions_are_written_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = command(&["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(stdout(&output).contains("firn"), "{shell}");
    }
}
