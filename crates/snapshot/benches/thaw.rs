//! How long a thaw takes, phase by phase, beside starting the same program anew.
//!
//! `cargo bench -p snapshot --bench thaw [-- PROGRAM...]`. Needs root. The times of phases are taken
//! by the tape itself. "first answer" is from the order to make an environment to the answer to
//! the first question, for a thaw and for a start.

#![allow(
    dead_code,
    reason = "what is shared with the tests is more than needed here"
)]
#![expect(clippy::print_stdout, reason = "results go there")]

#[path = "../tests/thaw/cage.rs"]
mod cage;
#[path = "../tests/thaw/programs.rs"]
mod programs;
#[path = "../tests/thaw/tiny.rs"]
mod tiny;

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cage::{Cage, Job};
use programs::Program;
use snapshot::{CompileOptions, Memory, WorkingSet, compile, scan};

const RUNS: usize = 40;

const PYTHON: &str = r#"
import json, ssl, asyncio, urllib.request, ctypes, sqlite3, decimal, email, logging, socket
server = socket.create_connection(("127.0.0.1", 9001))
server.sendall(b"ready\n")
while True:
    line = server.recv(100)
    if not line: break
    server.sendall(json.dumps({"answer": line.decode().strip()}).encode() + b"\n")
"#;

const NODE: &str = r#"
const socket = require('net').connect(9001, '127.0.0.1', () => socket.write('ready\n'));
require('crypto').randomBytes(8); require('https'); require('fs').readFile('/dev/null', () => {});
socket.on('data', line => socket.write(JSON.stringify({ answer: String(line).trim() }) + '\n'));
socket.on('end', () => process.exit(0));
"#;

fn main() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let classes = java()?;
    let classes = classes.path().to_str().context("path")?;
    let programs: [(&str, Vec<&str>, &str); 3] = [
        ("python", vec!["/usr/bin/python3", "-c", PYTHON], "hello"),
        ("node", vec!["/usr/bin/node", "-e", NODE], "hello"),
        (
            "java",
            vec![
                "/usr/bin/java",
                "-XX:+UseSerialGC",
                "-Xmx128m",
                "-cp",
                classes,
                "Server",
            ],
            "add",
        ),
    ];
    for (name, args, question) in programs {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure(name, &args, question)?;
        }
    }
    Ok(())
}

fn java() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::Builder::new()
        .prefix("thaw")
        .tempdir_in("/var/tmp")?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/thaw/Server.java");
    std::process::Command::new("javac")
        .args(["-d".as_ref(), directory.path().as_os_str(), source.as_ref()])
        .status()
        .context("javac")?;
    Ok(directory)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

fn measure(name: &str, args: &[&str], question: &str) -> Result<()> {
    let mut cold = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let cage = Cage::start(17, &Job::Program(args))?;
        let mut peer = cage.accept()?;
        ensure!(peer.line()? == "ready");
        peer.ask(question)?;
        cold.push(begun.elapsed());
    }
    let cold = median(cold);
    let program = Program::freeze(args)?;
    let image = &program.image;
    let segments: usize = image
        .mappings
        .iter()
        .map(|mapping| mapping.segments.len())
        .sum();
    println!(
        "{name}: {} threads, {} mappings, {segments} segments, {} files, {} KiB of pages",
        image.threads.len(),
        image.mappings.len(),
        image.files.len(),
        image.pages_len >> 10,
    );
    let (mut cage, mut peer) = program.thaw_shared()?;
    peer.ask(question)?;
    let working_set = scan(cage.host_pid, image)?;
    drop(peer);
    let _ = cage.report();
    drop(cage);
    thaw(&program, "as it comes", None, question, cold)?;
    thaw(
        &program,
        "pages prepared",
        Some(&working_set),
        question,
        cold,
    )
}

fn thaw(
    program: &Program,
    title: &str,
    working_set: Option<&WorkingSet>,
    question: &str,
    cold: f64,
) -> Result<()> {
    let confinement = tiny::confinement();
    let options = CompileOptions {
        memory: Memory::Shared,
        working_set,
        confinement: Some(confinement),
        ..CompileOptions::default()
    };
    let begun = Instant::now();
    let tape = compile(&program.image, &options)?;
    let compiled = begun.elapsed();
    let stamped = compile(
        &program.image,
        &CompileOptions {
            stamps: true,
            ..options
        },
    )?;
    let (mut answers, mut totals) = (Vec::new(), Vec::new());
    let mut phases: Vec<(&str, Vec<Duration>)> = Vec::new();
    for _ in 0..RUNS {
        let job = |tape| Job::Tape {
            tape,
            pages: &program.pages,
            scratch: &program.image.scratch,
            userfault: None,
        };
        let begun = Instant::now();
        let cage = Cage::start(program.image.pid, &job(&tape))?;
        cage.accept()?.ask(question)?;
        answers.push(begun.elapsed());
        drop(cage);
        let mut cage = Cage::start(program.image.pid, &job(&stamped))?;
        cage.accept()?.ask(question)?;
        let mut bytes = Vec::new();
        let mut report = cage.report.take().context("no report")?;
        report.read_to_end(&mut bytes)?;
        let stamps = stamped.phases(&bytes);
        for (index, pair) in stamps.windows(2).enumerate() {
            if phases.len() <= index {
                phases.push((pair[1].0, Vec::new()));
            }
            phases[index]
                .1
                .push(Duration::from_nanos(pair[1].1 - pair[0].1));
        }
        if let (Some(first), Some(last)) = (stamps.first(), stamps.last()) {
            totals.push(Duration::from_nanos(last.1 - first.1));
        }
    }
    let answer = median(answers);
    println!(
        "  {title}: first answer {answer:.2} ms, started anew {cold:.0} ms (x{:.0}); tape {:.2} ms, \
         {} entries, {} KiB, compiled in {:.2} ms",
        cold / answer,
        median(totals),
        tape.entries(),
        tape.len() >> 10,
        compiled.as_secs_f64() * 1000.0,
    );
    for (phase, times) in phases {
        println!("    {phase:<20} {:.3} ms", median(times));
    }
    Ok(())
}
