//! Bearer tokens of the admin API.

use std::fs;

use sha2::{Digest, Sha256};

use crate::{
    control::ControlError,
    random,
    state_dir::{StateDir, write_private},
    store::Store,
};

/// The name of the file that the first token is written to, and of the token itself.
const ADMIN: &str = "admin";

/// Makes sure that the operator of this machine has a token: `admin.token`, for its owner's eyes
/// only. A lost file means a new token, and the old one is void.
pub(crate) async fn ensure_admin(dir: &StateDir, store: &Store) -> Result<(), ControlError> {
    let file = dir.file("admin.token");
    if let Ok(secret) = fs::read_to_string(&file)
        && store.token(&hash(secret.trim())).await?.is_some()
    {
        return Ok(());
    }
    let secret = format!("weir_{}", random::hex(32));
    store.add_token(ADMIN, &hash(&secret)).await?;
    write_private(&file, secret.as_bytes())
        .map_err(|error| ControlError::File { file: file.clone(), error })?;
    tracing::info!(file = %file.display(), "wrote a new admin token");
    Ok(())
}

/// What is kept of a token. The secret has 256 random bits, so a fast hash is enough.
pub(crate) fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
