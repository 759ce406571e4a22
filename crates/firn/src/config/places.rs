//! Where files are by default: system folders for root, XDG folders for everybody else.

use std::path::PathBuf;

/// `/var/lib/firn` for root, else `$XDG_DATA_HOME/firn` or `~/.local/share/firn`.
pub fn data_dir() -> Option<PathBuf> {
    place("/var/lib/firn", "XDG_DATA_HOME", ".local/share")
}

/// `/etc/firn/firn.toml` for root, else `firn/firn.toml` in `$XDG_CONFIG_HOME` or `~/.config`.
pub fn config_file() -> Option<PathBuf> {
    place("/etc/firn", "XDG_CONFIG_HOME", ".config").map(|folder| folder.join("firn.toml"))
}

fn place(of_root: &str, variable: &str, in_home: &str) -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from(of_root));
    }
    // The XDG specification says that relative paths are to be ignored.
    let xdg = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(in_home));
    Some(xdg.or_else(home)?.join("firn"))
}
