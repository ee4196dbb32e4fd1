//! What was answered to requests that may be sent again.

use sqlx::{Row, SqliteConnection};

use super::{Cause, Store, StoreError, signed, unsigned};
use crate::time::unix_millis;

/// A request that may be sent again: who sends it, and the key that it has.
#[derive(Clone, Debug)]
pub(crate) struct Repeatable {
    pub(crate) actor: String,
    pub(crate) key: String,
    /// Of the method, the path and the body.
    pub(crate) fingerprint: String,
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) enum Known {
    /// It is new, and noted as under way.
    New,
    UnderWay,
    /// The key was another request's.
    Other,
    Answered(KeptAnswer),
    /// It was done, but the process ended before it was answered.
    Done {
        operation: u64,
    },
}

/// An answer as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct KeptAnswer {
    pub(crate) status: u16,
    /// JSON: pairs of name and value.
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// Notes in the transaction that does what a request asks for that it is done.
pub(super) async fn done(
    writing: &mut SqliteConnection,
    cause: Cause<'_>,
    operation: u64,
) -> Result<(), StoreError> {
    let Some(key) = cause.key else { return Ok(()) };
    sqlx::query("UPDATE idempotency SET operation = $1 WHERE actor = $2 AND key = $3")
        .bind(signed(operation))
        .bind(cause.actor)
        .bind(key)
        .execute(writing)
        .await?;
    Ok(())
}

impl Store {
    /// Forgets what was under way when the process before this one ended, and was not done.
    pub(super) async fn forget_unanswered(&self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM idempotency WHERE status IS NULL AND operation IS NULL")
            .execute(self.writer.pool())
            .await?;
        Ok(())
    }

    /// Takes note of a request before anything is done for it.
    pub(crate) async fn repeatable(&self, request: &Repeatable) -> Result<Known, StoreError> {
        let known = self.write(async |writing| {
            let noted = sqlx::query(
                "INSERT INTO idempotency (actor, key, fingerprint, at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (actor, key) DO NOTHING",
            )
            .bind(&request.actor)
            .bind(&request.key)
            .bind(&request.fingerprint)
            .bind(unix_millis())
            .execute(&mut *writing)
            .await?;
            if noted.rows_affected() > 0 {
                return Ok(Known::New);
            }
            let row = sqlx::query(
                "SELECT fingerprint, operation, status, headers, body FROM idempotency
                 WHERE actor = $1 AND key = $2",
            )
            .bind(&request.actor)
            .bind(&request.key)
            .fetch_one(&mut *writing)
            .await?;
            if row.try_get::<&str, _>("fingerprint")? != request.fingerprint {
                return Ok(Known::Other);
            }
            let Some(status) = row.try_get::<Option<i64>, _>("status")? else {
                let operation = row.try_get::<Option<i64>, _>("operation")?.map(unsigned);
                return Ok(operation.map_or(Known::UnderWay, |operation| Known::Done { operation }));
            };
            let status = status as u16;
            let (headers, body) = (row.try_get("headers")?, row.try_get("body")?);
            Ok(Known::Answered(KeptAnswer { status, headers, body }))
        });
        known.await
    }

    /// Keeps the answer to a request; without one, the request may be made anew.
    pub(crate) async fn answered(
        &self,
        request: &Repeatable,
        answer: Option<&KeptAnswer>,
    ) -> Result<(), StoreError> {
        let (statement, answer) = match answer {
            Some(answer) => (
                "UPDATE idempotency SET status = $3, headers = $4, body = $5
                 WHERE actor = $1 AND key = $2",
                answer.clone(),
            ),
            None => (
                "DELETE FROM idempotency WHERE actor = $1 AND key = $2 AND operation IS NULL",
                KeptAnswer { status: 0, headers: String::new(), body: String::new() },
            ),
        };
        let kept = self.write(async |writing| {
            sqlx::query(statement)
                .bind(&request.actor)
                .bind(&request.key)
                .bind(i64::from(answer.status))
                .bind(&answer.headers)
                .bind(&answer.body)
                .execute(&mut *writing)
                .await?;
            Ok(())
        });
        kept.await
    }
}
