//! Manifests: objects that name the objects in which the items are.

use std::collections::VecDeque;

use serde::Deserialize;

use super::Unreadable;

/// A manifest is read as a whole, so it has a limit.
pub const MAX_MANIFEST_BYTES: usize = 8 << 20;

/// An object to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub bucket: String,
    pub key: String,
}

/// What an S3 inventory's manifest says.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The columns of its files, which have no header.
    pub columns: Vec<String>,
    pub files: VecDeque<Located>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    destination_bucket: String,
    file_format: String,
    file_schema: String,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    key: String,
}

/// Reads the manifest of an S3 inventory.
pub fn inventory(text: &[u8]) -> Result<Inventory, Unreadable> {
    let manifest: Manifest = serde_json::from_slice(text).map_err(|error| {
        Unreadable::new(format!(
            "The object is not the manifest of an S3 inventory: {error}"
        ))
    })?;
    if manifest.file_format != "CSV" {
        let format = manifest.file_format;
        return Err(Unreadable::new(format!(
            "The S3 inventory has the format {format}; only CSV can be read."
        )));
    }
    let bucket = manifest.destination_bucket;
    let bucket = bucket.strip_prefix("arn:aws:s3:::").unwrap_or(&bucket);
    let columns = manifest.file_schema.split(',');
    Ok(Inventory {
        columns: columns.map(|name| name.trim().to_owned()).collect(),
        files: manifest
            .files
            .into_iter()
            .map(|file| Located {
                bucket: bucket.to_owned(),
                key: file.key,
            })
            .collect(),
    })
}

/// Reads the manifest of an Athena `UNLOAD`: an S3 URI a line.
pub fn athena(text: &[u8]) -> Result<VecDeque<Located>, Unreadable> {
    let text = std::str::from_utf8(text)
        .map_err(|_| Unreadable::new("The Athena manifest is not UTF-8."))?;
    let lines = text.lines().map(|line| line.trim().trim_matches('"'));
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let rest = line.strip_prefix("s3://");
            match rest.and_then(|rest| rest.split_once('/')) {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(Located {
                    bucket: bucket.to_owned(),
                    key: key.to_owned(),
                }),
                _ => Err(Unreadable::new(format!(
                    "The Athena manifest has a line that is no S3 URI: {}",
                    line.chars().take(100).collect::<String>()
                ))),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventory_says_its_files_and_their_columns() {
        let text = br#"{"sourceBucket": "s", "destinationBucket": "arn:aws:s3:::inventory",
            "version": "2016-11-30", "fileFormat": "CSV",
            "fileSchema": "Bucket, Key, Size, LastModifiedDate",
            "files": [{"key": "p/1.csv.gz", "size": 7300, "MD5checksum": "a7"}]}"#;
        let read = inventory(text).unwrap();
        assert_eq!(read.columns, ["Bucket", "Key", "Size", "LastModifiedDate"]);
        assert_eq!(read.files[0].bucket, "inventory");
        assert_eq!(read.files[0].key, "p/1.csv.gz");
    }

    #[test]
    fn inventory_of_another_format_is_refused() {
        let text =
            br#"{"destinationBucket": "b", "fileFormat": "ORC", "fileSchema": "", "files": []}"#;
        assert!(inventory(text).unwrap_err().cause.contains("ORC"));
        assert!(inventory(b"[]").is_err());
        assert!(inventory(b"\xff").is_err());
    }

    #[test]
    fn athena_manifest_is_a_list_of_uris() {
        let read = athena(b"s3://b/a/1\n\"s3://c/2\"\r\n\n").unwrap();
        let expected = [("b", "a/1"), ("c", "2")];
        let read: Vec<_> = read.iter().map(|o| (&*o.bucket, &*o.key)).collect();
        assert_eq!(read, expected);
        for broken in [&b"b/a"[..], b"s3://b", b"s3:///k", b"\xff"] {
            assert!(athena(broken).is_err());
        }
    }
}
