//! What a deployment uploads: which files of a folder, what runtime and handler they look like, and
//! the zip that holds them.

pub mod archive;
pub mod files;
pub mod guess;
pub mod ignore;

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Unzipped code may not be larger than this on Lambda, layers included.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
pub const MAX_UNZIPPED_BYTES: u64 = 262_144_000;

/// The sources of a function as the guesses see them: names, and text on demand.
#[derive(Debug)]
pub enum Sources {
    /// A folder, with the files that would be uploaded.
    Folder(Vec<files::File>),
    /// A zip made by someone else.
    Zip(std::path::PathBuf, Vec<String>),
}

impl Sources {
    /// Opens a folder or a zip file.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path)
            .with_context(|| format!("cannot read {}: give a folder or a zip", path.display()))?;
        if metadata.is_dir() {
            let files = files::collect(path)?;
            if files.is_empty() {
                bail!("{} holds no file to deploy", path.display());
            }
            return Ok(Self::Folder(files));
        }
        Ok(Self::Zip(path.to_owned(), archive::names(path)?))
    }

    /// The names of all files, with `/` between folders.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Folder(files) => files.iter().map(|file| file.name.as_str()).collect(),
            Self::Zip(_, names) => names.iter().map(String::as_str).collect(),
        }
    }

    /// The text of one file; nothing if it is absent, too large to be a handler, or not UTF-8.
    pub fn text(&self, name: &str) -> Option<String> {
        const MAX_SOURCE_BYTES: u64 = 4 << 20;
        match self {
            Self::Folder(files) => {
                let file = files.iter().find(|file| file.name == name)?;
                (file.size <= MAX_SOURCE_BYTES)
                    .then(|| std::fs::read_to_string(&file.path).ok())
                    .flatten()
            }
            Self::Zip(path, _) => archive::text(path, name, MAX_SOURCE_BYTES),
        }
    }
}

/// A function name made of a folder's or zip's name: what AWS does not allow becomes `-`.
pub fn name_from_path(path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    let stem = if path.is_dir() {
        path.file_name()?
    } else {
        path.file_stem()?
    };
    let name: String = stem
        .to_str()?
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    let name = name.trim_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_comes_from_the_folder_and_holds_only_what_aws_allows() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("my app.v2");
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(name_from_path(&folder).as_deref(), Some("my-app-v2"));
    }

    #[test]
    fn name_comes_from_the_zip_without_its_extension() {
        let dir = tempfile::tempdir().unwrap();
        let zip = dir.path().join("thumbnails.zip");
        std::fs::write(&zip, b"").unwrap();
        assert_eq!(name_from_path(&zip).as_deref(), Some("thumbnails"));
    }

    #[test]
    fn empty_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let err = Sources::open(dir.path()).unwrap_err();
        assert!(err.to_string().contains("holds no file to deploy"), "{err}");
    }
}
