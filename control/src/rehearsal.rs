//! Whether this program could take over a state directory, found out beside the one that has it.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use weir_config::Hostname;

use crate::{control::ControlError, state_dir::StateDir, store::Store};

/// Opens a copy of the database, migrations included, and reads every app of it. The original is
/// only read, so that whoever has it open goes on.
///
/// # Errors
/// What [`Control::open`](crate::Control::open) would fail with.
pub async fn rehearse(state_dir: &Path, base_domain: &Hostname) -> Result<(), ControlError> {
    let folder = state_dir.join("rehearsal");
    let file = |error| ControlError::File { file: folder.clone(), error };
    // One that was killed in the middle leaves its copy behind.
    remove(&folder).map_err(file)?;
    fs::DirBuilder::new().mode(0o700).create(&folder).map_err(file)?;
    let rehearsed = open(state_dir, folder.join("weir.db"), base_domain).await;
    remove(&folder).map_err(file)?;
    rehearsed
}

async fn open(state_dir: &Path, copy: PathBuf, base_domain: &Hostname) -> Result<(), ControlError> {
    Store::copy(&StateDir::database_in(state_dir), &copy).await?;
    let store = Store::open(&copy, base_domain).await?;
    let read = store.desired().await;
    store.close().await;
    Ok(read.map(|_| ())?)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
