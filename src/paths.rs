//! Where things are by default.

use std::{env, fs, os::unix::fs::MetadataExt, path::PathBuf};

/// The state directory: of the system for root, of the user otherwise.
pub(crate) fn default_state_dir() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/weir");
    }
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state_home = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    state_home.or_else(home).unwrap_or_else(|| PathBuf::from(".")).join("weir")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
