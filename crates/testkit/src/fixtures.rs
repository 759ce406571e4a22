use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// `app.handler`: answers with its event.
pub const PYTHON_ECHO: &str = "def handler(event, context):\n    return event\n";

/// `index.handler`, an ES module `index.mjs`: answers with its event.
pub const NODE_ECHO: &str = "export const handler = async (event) => event;\n";

/// A zip of the given files. A file named `bootstrap` is executable.
///
/// # Panics
/// If a name cannot be in a zip.
#[expect(
    clippy::expect_used,
    reason = "test support; writing to memory fails for no other reason"
)]
pub fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        let mode = if *name == "bootstrap" { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default().unix_permissions(mode);
        zip.start_file(*name, options)
            .expect("a name that a zip can hold");
        zip.write_all(text.as_bytes())
            .expect("memory takes all bytes");
    }
    zip.finish().expect("memory takes all bytes").into_inner()
}
