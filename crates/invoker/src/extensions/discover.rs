use std::collections::BTreeSet;
use std::path::PathBuf;

/// The names of a function's external extensions, in the order in which they are started: those of
/// the files that its layers put into `/opt/extensions`. `layers` are their directories on the
/// host, lowest first.
///
/// As on AWS, every file counts, also one that cannot be executed: that is an error of the init
/// phase. Links are not followed here: they mean something inside only.
pub(crate) fn external_extensions(layers: &[PathBuf]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for layer in layers {
        // A layer without the directory is the usual case.
        for entry in std::fs::read_dir(layer.join("extensions"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.file_type() {
                // Hides a lower layer's file of the same name.
                Ok(kind) if kind.is_dir() => names.remove(&name),
                Ok(_) => names.insert(name),
                Err(_) => false,
            };
        }
    }
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_layers_are_extensions_and_directories_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<_> = ["one", "two", "bare"]
            .map(|name| dir.path().join(name))
            .into();
        for (layer, file) in [("one", "b"), ("one", "a"), ("two", "c"), ("two", "a/inner")] {
            let path = dir.path().join(layer).join("extensions").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", layers[1].join("extensions/link")).unwrap();
        assert_eq!(external_extensions(&layers), ["b", "c", "link"]);
        assert!(external_extensions(&[]).is_empty());
    }
}
