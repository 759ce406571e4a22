//! How a JVM is started for a function, and the archive of classes that makes it start faster.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use super::RUNTIME_DIR;
use super::client::{JAVA_JAR, JAVA_SECURITY, unique};
use super::probe::Interpreter;

/// The class files of the client are for this version.
pub(super) const OLDEST: u32 = 11;
/// The first JVM that can write an archive of an application's classes when it ends.
const ARCHIVES: u32 = 13;
/// The first JVM that knows the flag.
const ERROR_FILE_TO_STDERR: u32 = 13;
const TRAINING: &str = "io.firn.runtime.Training";
/// What AWS keeps of the function's memory for everything that is not heap: 15 %, and no more than this.
const MOST_KEPT_KB: u32 = 240 * 1024;

/// Where org.crac, which functions package for hooks around snapshots, finds who implements it.
const CRAC: &str = "-Dorg.crac.Core.Compat=com.amazonaws.services.lambda.crac";

/// The flags that AWS's runtimes give the JVM, but for those that the function sets itself (`options`: its
/// JAVA_TOOL_OPTIONS, which the JVM would otherwise read and then override with these).
/// <https://docs.aws.amazon.com/lambda/latest/dg/java-customization.html>
pub(super) fn flags(release: u32, memory_mb: u32, options: &str) -> Vec<String> {
    let sets = |names: &[&str]| names.iter().any(|name| options.contains(name));
    let mut flags = Vec::new();
    if !sets(&["-Xmx", "MaxHeapSize", "MaxRAM"]) {
        flags.push(format!("-XX:MaxHeapSize={}k", heap_kb(memory_mb)));
        if !sets(&["-Xms", "InitialHeapSize", "InitialRAM"]) {
            // The JVM would take a part of the whole machine's memory, which is not the function's.
            let initial_mb = (memory_mb / 32).clamp(8, 64);
            flags.push(format!("-XX:InitialHeapSize={initial_mb}m"));
        }
    }
    let other_collector = options
        .split_whitespace()
        .any(|option| option.starts_with("-XX:+Use") && option.ends_with("GC"));
    if !other_collector {
        flags.push("-XX:+UseSerialGC".into());
    }
    if !sets(&["TieredStopAtLevel", "TieredCompilation", "-Xint", "-Xcomp"]) {
        flags.extend([
            "-XX:+TieredCompilation".into(),
            "-XX:TieredStopAtLevel=1".into(),
        ]);
    }
    if !sets(&["UsePerfData"]) {
        // The file in /tmp that it writes helps nobody here, and would be part of a snapshot.
        flags.push("-XX:-UsePerfData".into());
    }
    if release >= ERROR_FILE_TO_STDERR && !sets(&["ErrorFile"]) {
        flags.push("-XX:+ErrorFileToStderr".into());
    }
    if !sets(&["java.security.properties"]) {
        flags.push(format!(
            "-Djava.security.properties={RUNTIME_DIR}/{JAVA_SECURITY}"
        ));
    }
    flags.push(CRAC.into());
    flags
}

/// Uses the archive, unless the function wants something else in its place.
pub(super) fn archive_flags(archive: &str, options: &str) -> Vec<String> {
    if ["SharedArchiveFile", "-Xshare", "AOT", "-javaagent"]
        .iter()
        .any(|own| options.contains(own))
    {
        return Vec::new();
    }
    // A JVM that cannot use it for some reason goes on without, and should not say so in the function's log.
    vec![
        format!("-XX:SharedArchiveFile={archive}"),
        "-Xlog:cds*=off".into(),
    ]
}

fn heap_kb(memory_mb: u32) -> u32 {
    let memory_kb = memory_mb.saturating_mul(1024);
    let kept_kb = (memory_kb.saturating_mul(15) / 100).min(MOST_KEPT_KB);
    memory_kb - kept_kb
}

/// Makes the archive for this JVM beside the client, if it is not there; its path inside the sandbox. `None` if this
/// JVM cannot have one: functions then only start more slowly, so a failure is logged and nothing else.
///
/// It takes about a second, once for each JVM. An archive is not the same each time it is made, so nothing that
/// another server shall use (a snapshot) may depend on it.
pub(super) fn archive(client: &Path, interpreter: &Interpreter) -> Option<String> {
    if interpreter.release() < ARCHIVES {
        return None;
    }
    let name = archive_name(interpreter)?;
    let path = client.join(&name);
    if !path.is_file()
        && let Err(err) = make_archive(client, interpreter, &path)
    {
        tracing::warn!(interpreter = %interpreter.program.display(), %err, "could not archive the Java client's classes");
        return None;
    }
    Some(format!("{RUNTIME_DIR}/{name}"))
}

/// Two JVMs of the same version need not understand each other's archives.
fn archive_name(interpreter: &Interpreter) -> Option<String> {
    let meta = fs::metadata(&interpreter.program).ok()?;
    let mut hasher = Sha256::new();
    hasher.update(interpreter.program.as_os_str().as_encoded_bytes());
    hasher.update(meta.mtime().to_le_bytes());
    hasher.update(meta.len().to_le_bytes());
    let mut hash = hex::encode(hasher.finalize());
    hash.truncate(8);
    Some(format!("java-{}-{hash}.jsa", interpreter.version()))
}

/// The archive remembers the class path as it was given, and the sandbox has another one than this machine. So it is
/// given relative to a directory from which it leads to the client, as it does from the task root in the sandbox.
fn make_archive(client: &Path, interpreter: &Interpreter, target: &Path) -> io::Result<()> {
    let site = client.with_extension(format!("archiving.{}", unique()));
    let made = (|| {
        let task = site.join("task");
        fs::create_dir_all(&task)?;
        symlink(client, site.join("runtime"))?;
        let unfinished = site.join("archive.jsa");
        train(interpreter, &task, &unfinished)?;
        fs::rename(&unfinished, target)
    })();
    // What is left behind is never read.
    let _ = fs::remove_dir_all(&site);
    made
}

fn train(interpreter: &Interpreter, task: &Path, archive: &Path) -> io::Result<()> {
    let mut command = Command::new(&interpreter.program);
    command
        .args(flags(
            interpreter.release(),
            256,
            "java.security.properties",
        ))
        .arg(format!("-XX:ArchiveClassesAtExit={}", archive.display()))
        .args(["-cp", &format!("../runtime/{JAVA_JAR}"), TRAINING])
        .current_dir(task)
        .env_remove("JAVA_TOOL_OPTIONS")
        .env_remove("JDK_JAVA_OPTIONS")
        .stdin(Stdio::null());
    let output = command.output()?;
    if output.status.success() && archive.is_file() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(io::Error::other(format!(
        "{}: {}",
        output.status,
        said.trim()
    )))
}

/// The options of the function that the JVM reads from its environment.
pub(super) fn own_options(environment: &std::collections::BTreeMap<String, String>) -> String {
    ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"]
        .iter()
        .filter_map(|name| environment.get(*name))
        .fold(String::new(), |all, own| all + own + " ")
}

/// `java-17-openjdk-amd64`, `java-1.11.0-openjdk`, `temurin-25-jdk`, `21.0.2-tem` → the major version.
pub(super) fn major(dir: &str) -> Option<u32> {
    let mut numbers = dir
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok());
    match numbers.next()? {
        1 => numbers.next(),
        major => Some(major),
    }
}

/// `openjdk 17.0.15 2025-04-15`, `java 25 2025-09-16 LTS`, `openjdk 21-ea`.
pub(super) fn version(answer: &str) -> Option<(u32, u32, u32)> {
    let word = answer.lines().next()?.split(' ').nth(1)?;
    let mut numbers = word
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    Some((number(), number(), number())).filter(|version| version.0 >= OLDEST)
}

/// The directory that a JVM's program lies in the `bin` of.
pub(super) fn home(program: &Path) -> Option<PathBuf> {
    Some(program.parent()?.parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_what_aws_makes_it() {
        // As recorded on AWS for these sizes.
        assert_eq!(heap_kb(512), 445_645);
        assert_eq!(heap_kb(3008), 2_834_432);
        assert_eq!(heap_kb(10_240), 10_240 * 1024 - MOST_KEPT_KB);
    }

    #[test]
    fn what_the_function_sets_is_left_to_it() {
        let usual = flags(17, 512, "");
        assert!(usual.contains(&"-XX:+UseSerialGC".to_owned()));
        assert!(usual.contains(&"-XX:TieredStopAtLevel=1".to_owned()));
        let own = flags(17, 512, "-XX:+UseG1GC -Xmx100m -XX:TieredStopAtLevel=4 ");
        assert!(!own.iter().any(|flag| {
            flag.contains("SerialGC") || flag.contains("Tiered") || flag.contains("MaxHeap")
        }));
        assert!(
            !flags(11, 512, "")
                .iter()
                .any(|flag| flag.contains("ErrorFile"))
        );
        assert!(archive_flags("/var/runtime/x.jsa", "-Xshare:off ").is_empty());
    }

    #[test]
    fn versions_are_read_from_names_and_answers() {
        assert_eq!(major("java-1.17.0-openjdk-amd64"), Some(17));
        assert_eq!(major("temurin-25-jdk-amd64"), Some(25));
        assert_eq!(major("21.0.2-tem"), Some(21));
        assert_eq!(major("default-java"), None);
        assert_eq!(
            version("openjdk 17.0.15 2025-04-15\nmore"),
            Some((17, 0, 15))
        );
        assert_eq!(version("java 25 2025-09-16 LTS"), Some((25, 0, 0)));
        assert_eq!(version("openjdk 21-ea 2023-09-19"), Some((21, 0, 0)));
        assert_eq!(version("openjdk 10.0.1 2018-04-17"), None);
        assert_eq!(version(""), None);
    }
}
