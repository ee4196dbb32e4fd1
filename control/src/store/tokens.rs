//! Bearer tokens: only their hashes are kept.

use sqlx::Row;

use super::{Store, StoreError};

/// Who a bearer token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: String,
}

impl Store {
    /// Keeps a new token by the hash of its secret.
    pub(crate) async fn add_token(&self, id: &str, hash: &str) -> Result<(), StoreError> {
        let kept = self.write(async |writing| {
            sqlx::query(
                "INSERT INTO tokens (id, hash, created_at) VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET hash = excluded.hash",
            )
            .bind(id)
            .bind(hash)
            .bind(crate::time::unix_millis())
            .execute(&mut *writing)
            .await?;
            Ok(())
        });
        kept.await
    }

    pub(crate) async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        let row = sqlx::query("SELECT id FROM tokens WHERE hash = $1")
            .bind(hash)
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| Ok(Token { id: row.try_get("id")? })).transpose()
    }
}
