//! Events that a function declares safe to be run before it is frozen.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde_json::value::RawValue;

use crate::Function;

/// Names them: a JSON array of events, or `@` and a file of the package that holds one.
const VARIABLE: &str = "FIRN_SNAPSTART_PRIMING";
/// The file that is read when the variable is not set.
const FILE: &str = "firn-priming.json";
const MAX_BYTES: u64 = 6 * 1024 * 1024;
const MAX_EVENTS: usize = 100;

/// The function's priming events; none if it declares none. An error is for the function's log.
/// Reads files: to be called where blocking is allowed.
pub(crate) fn events(function: &Function) -> Result<Vec<Bytes>, String> {
    let declared = function.environment.get(VARIABLE).map(|text| text.trim());
    match declared {
        Some("") => Ok(Vec::new()),
        Some(text) => match text.strip_prefix('@') {
            Some(file) => {
                let text = read(&function.code_dir, file)
                    .map_err(|err| format!("{VARIABLE} names {file:?}: {err}"))?;
                parse(&text, file)
            }
            None => parse(text, VARIABLE),
        },
        None => match read(&function.code_dir, FILE) {
            Ok(text) => parse(&text, FILE),
            Err(Unreadable::Absent) => Ok(Vec::new()),
            Err(err) => Err(format!("{FILE}: {err}")),
        },
    }
}

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("there is no such file in the package")]
    Absent,
    #[error("it is not a regular file inside the package")]
    NotInside,
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is not text in UTF-8")]
    NotText,
    #[error("it cannot be read: {0}")]
    Failed(std::io::Error),
}

/// The package is the function's: links that leave it and special files are not followed.
fn read(code_dir: &Path, file: &str) -> Result<String, Unreadable> {
    let failed = |err: rustix::io::Errno| match err {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => Unreadable::Absent,
        rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => Unreadable::NotInside,
        err => Unreadable::Failed(err.into()),
    };
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(code_dir, path, Mode::empty()).map_err(failed)?;
    let file = rustix::fs::openat2(
        &dir,
        file,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    );
    let file = std::fs::File::from(file.map_err(failed)?);
    if !file.metadata().map_err(Unreadable::Failed)?.is_file() {
        return Err(Unreadable::NotInside);
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    if read.map_err(Unreadable::Failed)? as u64 > MAX_BYTES {
        return Err(Unreadable::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}

fn parse(text: &str, what: &str) -> Result<Vec<Bytes>, String> {
    let events: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|err| format!("{what} does not hold a JSON array of events: {err}"))?;
    if events.len() > MAX_EVENTS {
        return Err(format!(
            "{what} holds {} events, {MAX_EVENTS} are the most",
            events.len()
        ));
    }
    let event = |event: &RawValue| Bytes::copy_from_slice(event.get().as_bytes());
    Ok(events.into_iter().map(event).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn function(dir: &Path, declared: Option<&str>) -> Function {
        let mut function = testing::function();
        function.code_dir = dir.to_owned();
        if let Some(declared) = declared {
            function
                .environment
                .insert(VARIABLE.into(), declared.into());
        }
        function
    }

    #[test]
    fn events_come_from_the_variable_a_named_file_or_the_usual_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(events(&function(dir.path(), None)).unwrap().is_empty());
        std::fs::write(dir.path().join(FILE), r#"[ {"a": 1} , 2]"#).unwrap();
        std::fs::write(dir.path().join("other.json"), "[3]").unwrap();
        let found = |declared| events(&function(dir.path(), declared)).unwrap();
        assert_eq!(found(None), [&br#"{"a": 1}"#[..], b"2"]);
        assert_eq!(found(Some("@other.json")), [&b"3"[..]]);
        assert_eq!(found(Some(r#"["x"]"#)), [&br#""x""#[..]]);
        assert!(found(Some("")).is_empty(), "the file is switched off");
    }

    #[test]
    fn nothing_outside_of_the_package_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        for bad in ["@link", "@/etc/hostname", "@../x", "@folder"] {
            let err = events(&function(dir.path(), Some(bad))).unwrap_err();
            assert!(err.contains("inside the package"), "{bad}: {err}");
        }
        let err = events(&function(dir.path(), Some("@absent"))).unwrap_err();
        assert!(err.contains("no such file"), "{err}");
    }

    #[test]
    fn what_is_not_a_list_of_events_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["{}", "[1", "nonsense", &format!("[{}1]", "1,".repeat(100))] {
            assert!(events(&function(dir.path(), Some(bad))).is_err(), "{bad}");
        }
    }
}
