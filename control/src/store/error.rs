//! What can go wrong with the store, by what the caller can do about it.

use weir_config::{AppName, Hostname};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no app `{0}`")]
    NoApp(AppName),
    #[error("the app `{0}` exists already; change it with PUT, or choose another name")]
    NameTaken(AppName),
    #[error("{hostname} is served by the app `{app}` already; remove it there first")]
    HostnameTaken { hostname: Hostname, app: AppName },
    #[error("the app has changed: it is at revision {found}, not {expected}; read it again")]
    Conflict { found: u64, expected: u64 },
    #[error("the disk of the state directory is full; free some space, nothing was changed")]
    Full,
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
    #[error("the database cannot be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("the database holds a spec that cannot be read: {0}")]
    Corrupt(String),
}

/// SQLite's primary result code for a full disk (`SQLITE_FULL`).
const SQLITE_FULL: &str = "13";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            Some(SQLITE_FULL) => Self::Full,
            _ => Self::Database(error),
        }
    }
}
