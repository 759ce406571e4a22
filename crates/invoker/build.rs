//! Compiles firn's Java client into the jar that the binary embeds. Needs a `javac` (11 or newer); without one the
//! binary is built all the same, and says that it cannot run Java functions.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const CLIENT: &str = "../../runtimes/java";
/// `invokedynamic`, which newer class files use to put strings together, takes a JVM long to set up.
const FLAGS: [&str; 6] = [
    "--release",
    "11",
    "-XDstringConcat=inline",
    "-encoding",
    "UTF-8",
    "-nowarn",
];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={CLIENT}");
    println!("cargo::rerun-if-env-changed=JAVA_HOME");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let jar = out.join("firn-runtime.jar");
    let Some(javac) = compiler() else {
        println!(
            "cargo::warning=no javac found: this firn will not run Java functions (install a JDK, or set JAVA_HOME)"
        );
        return fs::write(jar, []);
    };
    let classes = out.join("java-classes");
    match fs::remove_dir_all(&classes) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut sources = Vec::new();
    files(&Path::new(CLIENT).join("src"), "java", &mut sources)?;
    let output = Command::new(&javac)
        .args(FLAGS)
        .arg("-d")
        .arg(&classes)
        .args(&sources)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!(
            "{} failed:\n{said}",
            javac.display()
        )));
    }
    pack(&classes, &jar)
}

/// `JAVA_HOME`'s, that of PATH, or any of the system's.
fn compiler() -> Option<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut system: Vec<PathBuf> = fs::read_dir("/usr/lib/jvm")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    system.sort();
    home.into_iter()
        .chain(env::split_paths(&path))
        .chain(system)
        .map(|dir| dir.join("javac"))
        .find(|javac| javac.is_file())
}

/// The files below `dir` with this extension, in order of their names.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut paths = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, extension, found)?;
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    Ok(())
}

/// A jar that is the same for the same classes. Not compressed: that is quicker to load, and the binary is hardly larger.
fn pack(classes: &Path, jar: &Path) -> io::Result<()> {
    let mut zip = ZipWriter::new(File::create(jar)?);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("META-INF/MANIFEST.MF", options)?;
    zip.write_all(&fs::read(Path::new(CLIENT).join("manifest.mf"))?)?;
    let mut found = Vec::new();
    files(classes, "class", &mut found)?;
    for path in found {
        let name = path.strip_prefix(classes).map_err(io::Error::other)?;
        zip.start_file(name.to_string_lossy(), options)?;
        zip.write_all(&fs::read(&path)?)?;
    }
    zip.finish()?;
    Ok(())
}
