//! What a snapshot belongs to: two functions, runtimes or machines that differ in anything that a
//! frozen process may have taken in have different identities.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use chunks::{Account, ImageId};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::Function;
use crate::runtimes::{RUNTIME_DIR, Resolved};

/// Changes whenever images that were made before must not be used any more, for reasons that none
/// of the other parts shows.
const GENERATION: u32 = 1;

/// The name of an image in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub account: Account,
    pub id: ImageId,
}

/// All of it, in the order in which it is hashed.
#[derive(Serialize)]
struct Facts<'a> {
    generation: u32,
    format: u32,
    host: &'a snapshot::Host,
    account: &'a str,
    region: &'a str,
    arn: &'a str,
    version: &'a str,
    code: Code<'a>,
    layers: Vec<Option<&'a str>>,
    role: &'a str,
    runtime: &'a str,
    handler: &'a str,
    memory_mb: u32,
    timeout_ms: u128,
    ephemeral_mb: u32,
    environment: &'a BTreeMap<String, String>,
    log_group: &'a str,
    log_format: &'a str,
    log_level: Option<&'a str>,
    program: Stamp,
    arguments: Vec<String>,
    defaults: &'a [(String, String)],
    mounts: Vec<Mounted>,
}

#[derive(Serialize)]
enum Code<'a> {
    Hash(&'a str),
    /// Code that nobody has hashed, told by where it lies and when it was changed.
    At(Stamp),
}

/// A file or directory of the host.
#[derive(Serialize)]
struct Stamp {
    path: PathBuf,
    /// Modification time and size, if it exists.
    version: Option<(i64, i64, u64)>,
}

#[derive(Serialize)]
struct Mounted {
    inside: PathBuf,
    content: Content,
}

#[derive(Serialize)]
enum Content {
    /// Directories whose own name is a hash of what they hold.
    Named(PathBuf),
    At(Stamp),
}

impl Identity {
    /// Looks at files: to be called where blocking is allowed.
    pub fn of(
        function: &Function,
        resolved: &Resolved,
        host: &snapshot::Host,
    ) -> Result<Self, chunks::Error> {
        let (program, arguments) = resolved.command(function.memory_mb, &function.environment);
        let facts = Facts {
            generation: GENERATION,
            format: snapshot::FORMAT,
            host,
            account: &function.account,
            region: &function.region,
            arn: &function.arn,
            version: &function.version,
            code: if function.code_sha256.is_empty() {
                Code::At(Stamp::of(&function.code_dir))
            } else {
                Code::Hash(&function.code_sha256)
            },
            // Unpacked layers lie under the hash of their content; above that every server has
            // directories of its own.
            layers: function
                .layer_dirs
                .iter()
                .map(|dir| dir.file_name().and_then(|name| name.to_str()))
                .collect(),
            role: &function.role,
            runtime: &function.runtime,
            handler: &function.handler,
            memory_mb: function.memory_mb,
            timeout_ms: function.timeout.as_millis(),
            ephemeral_mb: function.ephemeral_mb,
            environment: &function.environment,
            log_group: &function.log_group,
            log_format: function.log_format.as_str(),
            log_level: function.application_log_level.as_deref(),
            program: Stamp::of(&program),
            arguments,
            defaults: &resolved.env,
            mounts: resolved.mounts.iter().map(Mounted::of).collect(),
        };
        // Serialising plain data into memory does not fail; if it did, no two functions would get
        // the same name from it, because the names of both would be refused.
        let facts = serde_json::to_vec(&facts).unwrap_or_default();
        let id = if facts.is_empty() {
            String::new()
        } else {
            hex::encode(Sha256::digest(&facts))
        };
        Ok(Self {
            account: Account::new(&function.account)?,
            id: ImageId::new(&id)?,
        })
    }
}

impl Mounted {
    fn of((source, inside): &(PathBuf, PathBuf)) -> Self {
        let content = if inside == Path::new(RUNTIME_DIR) {
            Content::Named(last_components(source, 2))
        } else {
            Content::At(Stamp::of(source))
        };
        Self {
            inside: inside.clone(),
            content,
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let version = std::fs::metadata(path)
            .ok()
            .map(|found| (found.mtime(), found.mtime_nsec(), found.size()));
        Self {
            path: path.to_owned(),
            version,
        }
    }
}

fn last_components(path: &Path, count: usize) -> PathBuf {
    let all = path.components().count();
    path.components().skip(all.saturating_sub(count)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtimes::Runtime;
    use crate::testing;

    fn host() -> snapshot::Host {
        snapshot::Host {
            machine: "x86_64".into(),
            kernel: "6.18".into(),
            vdso: 1,
            cpu: 2,
        }
    }

    fn resolved(dir: &Path) -> Resolved {
        Resolved {
            program: dir.join("python3"),
            args: vec!["/var/runtime/bootstrap.py".into()],
            mounts: vec![
                (dir.join("lang"), dir.join("lang")),
                (dir.join("hash").join("python"), RUNTIME_DIR.into()),
            ],
            env: Vec::new(),
            exact: true,
            warning: None,
            execution_env: None,
            has_sdk: false,
            version: None,
            runtime: Runtime::parse("python3.12").unwrap(),
            archive: None,
        }
    }

    fn id(function: &Function, resolved: &Resolved, host: &snapshot::Host) -> String {
        Identity::of(function, resolved, host)
            .unwrap()
            .id
            .to_string()
    }

    #[test]
    fn everything_that_a_process_can_take_in_changes_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let (function, runtime) = (testing::function(), resolved(dir.path()));
        let first = id(&function, &runtime, &host());
        assert_eq!(first, id(&function, &runtime, &host()));

        let changes: [fn(&mut Function); 12] = [
            |f| f.account = "000000000001".into(),
            |f| f.arn.push('x'),
            |f| f.version = "2".into(),
            |f| f.code_sha256 = "abc".into(),
            |f| f.layer_dirs.push("/layers/abc".into()),
            |f| f.handler.push('x'),
            |f| f.memory_mb += 1,
            |f| f.timeout += Duration::from_secs(1),
            |f| f.ephemeral_mb += 1,
            |f| f.role.push('x'),
            |f| f.log_group.push('x'),
            |f| {
                f.environment.insert("A".into(), "b".into());
            },
        ];
        let mut seen = std::collections::HashSet::from([first.clone()]);
        for change in changes {
            let mut changed = function.clone();
            change(&mut changed);
            assert!(seen.insert(id(&changed, &runtime, &host())));
        }
        let other_cpu = snapshot::Host { cpu: 3, ..host() };
        assert!(seen.insert(id(&function, &runtime, &other_cpu)));
        let other_kernel = snapshot::Host {
            kernel: "6.19".into(),
            ..host()
        };
        assert!(seen.insert(id(&function, &runtime, &other_kernel)));
        std::fs::write(&runtime.program, "new interpreter").unwrap();
        assert!(seen.insert(id(&function, &runtime, &host())));
        std::fs::create_dir(dir.path().join("lang")).unwrap();
        assert!(seen.insert(id(&function, &runtime, &host())));
    }

    #[test]
    fn revision_and_place_of_hashed_code_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut function = testing::function();
        function.code_sha256 = "abc".into();
        let mut runtime = resolved(dir.path());
        let first = id(&function, &runtime, &host());
        function.revision_id.push('x');
        function.code_dir = "/elsewhere".into();
        runtime.mounts[1].0 = "/other/data/hash/python".into();
        assert_eq!(id(&function, &runtime, &host()), first);
    }
}
