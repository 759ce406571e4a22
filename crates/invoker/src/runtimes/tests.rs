//! Mapping runtimes to interpreters on a pretended machine. Its interpreters are files that cannot run; their answers
//! are put into the cache. The last tests use the real machine.

use std::fs;
use std::process::Command;

use super::*;

struct Machine {
    root: tempfile::TempDir,
    config: RuntimesConfig,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let search = Search {
            path: vec![root.path().join("bin")],
            python_versions: vec![root.path().join("pyenv/versions")],
            node_versions: vec![root.path().join("nvm/versions/node")],
            java_versions: vec![root.path().join("jvm")],
        };
        let config = RuntimesConfig {
            dir: root.path().join("runtimes"),
            data_dir: root.path().join("data"),
            search,
        };
        Self { root, config }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(path)
    }

    fn interpreter(&self, path: &str, version: (u32, u32, u32)) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"\x7fELF, but not really").unwrap();
        let mut probes = self.probes();
        probes.remember(&path, version, path.parent().unwrap().parent().unwrap());
        probes.save();
        path
    }

    fn probes(&self) -> Probes {
        Probes::at(self.config.data_dir.join("runtime/interpreters.json"))
    }

    fn runtimes(&self) -> Runtimes {
        Runtimes::discover(self.config.clone())
    }
}

#[test]
fn the_exact_version_wins_wherever_it_is() {
    let machine = Machine::new();
    machine.interpreter("bin/python3", (3, 13, 1));
    machine.interpreter("bin/python3.11", (3, 11, 4));
    let wanted = machine.interpreter("pyenv/versions/3.12.1/bin/python3", (3, 12, 1));
    let resolved = machine.runtimes().resolve("python3.12").unwrap();
    assert_eq!(resolved.program, wanted);
    assert!(resolved.exact);
    assert_eq!(resolved.warning, None);
    assert_eq!(
        resolved.execution_env.as_deref(),
        Some("AWS_Lambda_python3.12")
    );
    assert_eq!(resolved.version.as_deref(), Some("3.12.1"));
}

#[test]
fn the_runtime_directory_comes_before_the_path() {
    let machine = Machine::new();
    machine.interpreter("bin/node", (22, 1, 0));
    let own = machine.interpreter("runtimes/nodejs22.x/bin/node", (22, 3, 0));
    assert_eq!(
        machine.runtimes().resolve("nodejs22.x").unwrap().program,
        own
    );
}

#[test]
fn without_the_exact_version_the_next_higher_runs_with_a_warning() {
    let machine = Machine::new();
    machine.interpreter("pyenv/versions/3.9.18/bin/python3", (3, 9, 18));
    machine.interpreter("pyenv/versions/3.13.0/bin/python3", (3, 13, 0));
    let higher = machine.interpreter("pyenv/versions/3.12.1/bin/python3", (3, 12, 1));
    let resolved = machine.runtimes().resolve("python3.10").unwrap();
    assert_eq!(resolved.program, higher);
    assert!(!resolved.exact);
    assert!(
        resolved
            .warning
            .unwrap()
            .contains("no Python 3.10 on this machine: python3.10 functions run on Python 3.12.1")
    );
    assert_eq!(
        resolved.execution_env.as_deref(),
        Some("AWS_Lambda_python3.10")
    );
}

#[test]
fn without_a_higher_version_the_highest_runs() {
    let machine = Machine::new();
    machine.interpreter("nvm/versions/node/v16.1.0/bin/node", (16, 1, 0));
    let highest = machine.interpreter("nvm/versions/node/v20.20.2/bin/node", (20, 20, 2));
    assert_eq!(
        machine.runtimes().resolve("nodejs24.x").unwrap().program,
        highest
    );
}

#[test]
fn without_any_interpreter_the_error_says_how_to_get_one() {
    let machine = Machine::new();
    let err = machine.runtimes().resolve("nodejs22.x").unwrap_err();
    assert!(
        err.to_string().contains("firn runtimes install nodejs22.x"),
        "{err}"
    );
    let err = machine.runtimes().resolve("python3.14").unwrap_err();
    assert!(err.to_string().contains("python3.14/bin/python3"), "{err}");
}

#[test]
fn an_interpreter_that_appears_later_is_found() {
    let machine = Machine::new();
    let runtimes = machine.runtimes();
    runtimes.resolve("nodejs22.x").unwrap_err();
    let machine_probes = machine.interpreter("bin/node", (22, 1, 0));
    // Another process's cache is not read again, so this one is told.
    runtimes
        .inner
        .probes
        .lock()
        .unwrap()
        .remember(&machine_probes, (22, 1, 0), Path::new("/usr"));
    assert!(runtimes.resolve("nodejs22.x").unwrap().exact);
}

#[test]
fn scripts_of_version_managers_are_passed_over() {
    let machine = Machine::new();
    let shim = machine.path("bin/python3.12");
    fs::create_dir_all(shim.parent().unwrap()).unwrap();
    fs::write(&shim, "#!/bin/sh\nexec pyenv exec python3.12 \"$@\"\n").unwrap();
    let real = machine.interpreter("pyenv/versions/3.12.1/bin/python3.12", (3, 12, 1));
    std::os::unix::fs::symlink(&real, machine.path("pyenv/versions/3.12.1/bin/python3")).unwrap();
    assert_eq!(
        machine.runtimes().resolve("python3.12").unwrap().program,
        real
    );
}

#[test]
fn an_interpreter_outside_usr_brings_its_prefix_and_its_directory_in_the_path() {
    let machine = Machine::new();
    machine.interpreter("pyenv/versions/3.12.1/bin/python3", (3, 12, 1));
    let resolved = machine.runtimes().resolve("python3.12").unwrap();
    let prefix = machine.path("pyenv/versions/3.12.1");
    assert_eq!(resolved.mounts[0], (prefix.clone(), prefix.clone()));
    assert_eq!(resolved.mounts[1].1, Path::new("/var/runtime"));
    let path = resolved
        .env
        .iter()
        .find(|(name, _)| name == "PATH")
        .unwrap();
    assert!(path.1.starts_with(&format!("{}/bin:", prefix.display())));
}

#[test]
fn an_installed_sdk_is_mounted_for_the_interpreter_that_runs() {
    let machine = Machine::new();
    machine.interpreter("bin/python3", (3, 13, 0));
    machine.interpreter("bin/node", (22, 0, 0));
    let python_sdk = machine.path("runtimes/sdk/python/3.13");
    let node_sdk = machine.path("runtimes/sdk/node/node_modules");
    fs::create_dir_all(&python_sdk).unwrap();
    fs::create_dir_all(&node_sdk).unwrap();
    let runtimes = Runtimes::discover(RuntimesConfig {
        dir: machine.path("runtimes"),
        ..machine.config.clone()
    });
    let python = runtimes.resolve("python3.12").unwrap();
    assert!(python.has_sdk);
    assert!(
        python
            .mounts
            .contains(&(python_sdk, "/var/runtime/sdk".into()))
    );
    let node = runtimes.resolve("nodejs22.x").unwrap();
    assert!(
        node.mounts
            .contains(&(node_sdk.clone(), "/var/runtime/node_modules".into()))
    );
    assert!(node.mounts.contains(&(node_sdk, "/node_modules".into())));
}

#[test]
fn other_languages_and_retired_runtimes_are_refused_by_name() {
    let runtimes = Machine::new().runtimes();
    assert!(matches!(
        runtimes.resolve("ruby3.4"),
        Err(RuntimeError::Unsupported {
            family: Family::Ruby,
            ..
        })
    ));
    assert!(matches!(
        runtimes.resolve("java8"),
        Err(RuntimeError::Retired { .. })
    ));
    assert!(matches!(
        runtimes.resolve("python3.7"),
        Err(RuntimeError::Retired { .. })
    ));
    assert!(matches!(
        runtimes.resolve("python4"),
        Err(RuntimeError::Unknown(_))
    ));
}

#[test]
fn a_custom_runtime_runs_the_packages_bootstrap_before_a_layers() {
    let machine = Machine::new();
    let (code, layer) = (machine.path("code"), machine.path("layer"));
    fs::create_dir_all(&code).unwrap();
    fs::create_dir_all(&layer).unwrap();
    let runtimes = machine.runtimes();
    let layers = [layer.clone()];
    let program = || {
        runtimes
            .resolve_function("provided.al2023", &code, &layers)
            .map(|resolved| resolved.program)
    };

    let err = program().unwrap_err();
    assert_eq!(
        err.to_string(),
        "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
    );
    assert_eq!(err.error_type(), "Runtime.InvalidEntrypoint");
    fs::write(layer.join("bootstrap"), "").unwrap();
    assert_eq!(program().unwrap(), Path::new("/opt/bootstrap"));
    fs::write(code.join("bootstrap"), "").unwrap();
    assert_eq!(program().unwrap(), Path::new("/var/task/bootstrap"));
}

#[test]
fn a_wrapper_gets_the_whole_command_line() {
    let machine = Machine::new();
    let python = machine.interpreter("bin/python3", (3, 12, 0));
    let resolved = machine.runtimes().resolve("python3.12").unwrap();
    let wrapped = BTreeMap::from([("AWS_LAMBDA_EXEC_WRAPPER".to_owned(), "/opt/wrap".to_owned())]);
    let (program, args) = resolved.command(128, &wrapped);
    assert_eq!(program, Path::new("/opt/wrap"));
    assert_eq!(args[0], python.display().to_string());
    assert_eq!(args.last().unwrap(), "/var/runtime/bootstrap.py");
    assert_eq!(resolved.command(128, &BTreeMap::new()).0, python);
}

#[test]
fn node_gets_heap_limits_unless_the_function_sets_them() {
    assert_eq!(
        node_heap_flags(512, ""),
        ["--max-semi-space-size=25", "--max-old-space-size=461"]
    );
    assert!(node_heap_flags(512, "--max_old_space_size=300").is_empty());
}

#[test]
fn node_features_that_lambda_turns_off_are_off() {
    let machine = Machine::new();
    machine.interpreter("bin/node", (24, 1, 0));
    let runtimes = machine.runtimes();
    let args = |runtime: &str, options: &str| {
        let environment = BTreeMap::from([("NODE_OPTIONS".to_owned(), options.to_owned())]);
        let args = runtimes
            .resolve(runtime)
            .unwrap()
            .command(128, &environment)
            .1;
        args.into_iter()
            .filter(|arg| arg.starts_with("--no-experimental"))
            .collect::<Vec<_>>()
    };
    let both = [
        "--no-experimental-require-module",
        "--no-experimental-detect-module",
    ];
    assert_eq!(args("nodejs22.x", ""), both);
    assert_eq!(
        args("nodejs22.x", "--experimental-require-module"),
        both[1..]
    );
    assert_eq!(args("nodejs20.x", ""), both[..1]);
    assert!(args("nodejs24.x", "").is_empty());
}

#[test]
fn node_is_not_given_flags_it_does_not_know() {
    let machine = Machine::new();
    machine.interpreter("bin/node", (18, 20, 8));
    let args = machine
        .runtimes()
        .resolve("nodejs18.x")
        .unwrap()
        .command(128, &BTreeMap::new())
        .1;
    // V8 has known this one for longer than Lambda has known Node.js 16.
    let unknown = |arg: &String| arg.starts_with("--no-") && arg != NO_MEMORY_REDUCER;
    assert!(!args.iter().any(unknown), "{args:?}");
    assert!(args.iter().any(|arg| arg == NO_MEMORY_REDUCER), "{args:?}");
}

#[test]
fn a_real_python_is_asked_once_and_gets_bytecode() {
    let machine = Machine::new();
    let config = RuntimesConfig {
        search: Search::from_env(),
        ..machine.config.clone()
    };
    let runtimes = Runtimes::discover(config.clone());
    let Ok(resolved) = runtimes.resolve("python3.12") else {
        eprintln!("SKIPPED: no Python on this machine");
        return;
    };
    let client = &resolved
        .mounts
        .iter()
        .find(|(_, inside)| inside == Path::new(RUNTIME_DIR))
        .unwrap()
        .0;
    let bytecode = fs::read_dir(client.join("__pycache__")).unwrap().count();
    assert!(bytecode > 4, "{bytecode} files");
    let output = Command::new(&resolved.program)
        .args([
            "-S",
            "-c",
            "import sys; print(sys.version.split()[0].rstrip('+'))",
        ])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        resolved.version.clone().unwrap()
    );

    // The second time, everything is known: a broken program would not be noticed.
    let cache = fs::read_to_string(config.data_dir.join("runtime/interpreters.json")).unwrap();
    assert!(cache.contains(&resolved.program.display().to_string()));
    assert_eq!(
        Runtimes::discover(config).resolve("python3.12").unwrap(),
        resolved
    );
}

#[test]
fn a_jvm_of_the_exact_version_wins_and_gets_its_flags() {
    let machine = Machine::new();
    machine.interpreter("bin/java", (17, 0, 15));
    let wanted = machine.interpreter("jvm/temurin-25-jdk-amd64/bin/java", (25, 0, 3));
    let resolved = match machine.runtimes().resolve("java25") {
        Err(RuntimeError::NotBuilt) => {
            eprintln!("SKIPPED: built without javac");
            return;
        }
        resolved => resolved.unwrap(),
    };
    assert_eq!((&resolved.program, resolved.exact), (&wanted, true));
    assert_eq!(resolved.execution_env.as_deref(), Some("AWS_Lambda_java25"));
    let environment = BTreeMap::from([("JAVA_TOOL_OPTIONS".to_owned(), "-Xmx64m".to_owned())]);
    let (_, args) = resolved.command(512, &environment);
    assert_eq!(args.last().unwrap(), "/var/runtime/firn-runtime.jar");
    assert!(args.contains(&"-XX:+UseSerialGC".to_owned()));
    assert!(!args.iter().any(|arg| arg.contains("MaxHeapSize")));
}

#[test]
fn an_older_java_runs_on_the_next_higher_jvm() {
    let machine = Machine::new();
    machine.interpreter("bin/java", (17, 0, 15));
    let runtimes = machine.runtimes();
    for runtime in ["java8.al2", "java11", "java21"] {
        match runtimes.resolve(runtime) {
            Err(RuntimeError::NotBuilt) => return,
            resolved => assert!(!resolved.unwrap().exact),
        }
    }
    let err = Machine::new().runtimes().resolve("java21").unwrap_err();
    assert!(err.to_string().contains("java21/bin/java"), "{err}");
}

#[test]
fn a_real_jvm_archives_the_clients_classes() {
    let machine = Machine::new();
    let config = RuntimesConfig {
        search: Search::from_env(),
        ..machine.config.clone()
    };
    let Ok(resolved) = Runtimes::discover(config).resolve("java17") else {
        eprintln!("SKIPPED: no JVM on this machine, or built without javac");
        return;
    };
    let environment = BTreeMap::new();
    let (_, portable) = resolved.command(128, &environment);
    assert!(!portable.iter().any(|arg| arg.contains("SharedArchiveFile")));
    let (_, here) = resolved.command_here(128, &environment);
    let archive = here
        .iter()
        .find_map(|arg| arg.strip_prefix("-XX:SharedArchiveFile=/var/runtime/"))
        .unwrap();
    let client = &resolved
        .mounts
        .iter()
        .find(|(_, inside)| inside == Path::new(RUNTIME_DIR))
        .unwrap()
        .0;
    assert!(fs::metadata(client.join(archive)).unwrap().len() > 100_000);
}
