//! What was asked for: who, what, the spec before and after, and what came of it.

use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Cause, Kind, Page, Store, StoreError, Verb, idempotency, prune::KEPT_OPERATIONS, sequence,
    signed, unsigned,
};
use crate::time::unix_millis;

/// One change or action that somebody asked for.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) number: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: i64,
    /// The token that asked.
    pub(crate) actor: String,
    pub(crate) verb: String,
    pub(crate) target: Target,
    /// Of the store; `None` if nothing that is meant has changed.
    pub(crate) revision: Option<u64>,
    /// The spec as JSON, without its secrets.
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// What came of it, once that is final.
    pub(crate) outcome: Option<Outcome>,
}

/// What an operation is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: String,
    pub(crate) name: String,
    /// That it made, or found.
    pub(crate) generation: u64,
    pub(crate) deployment: Option<u64>,
}

/// What came of an operation. Final: nothing makes another of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) state: OperationState,
    /// A sentence for people.
    pub(crate) message: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperationState {
    Succeeded,
    Failed,
    /// A newer one was accepted before it was settled.
    Superseded,
    Cancelled,
}

impl Target {
    /// All of Weir.
    pub(crate) fn everything() -> Self {
        Self::without_spec("Cluster", "weir")
    }

    pub(crate) fn certificate(name: &str) -> Self {
        Self::without_spec("Certificate", name)
    }

    pub(crate) fn domain(name: &str) -> Self {
        Self::without_spec("Domain", name)
    }

    /// What is no object of the store.
    fn without_spec(kind: &str, name: &str) -> Self {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        Self { kind, name, generation: 0, deployment: None }
    }
}

/// What an operation changes.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) target: Target,
    pub(super) revision: Option<u64>,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

/// Which operations to list; those of all objects if `kind` and `name` are empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct OperationFilter {
    pub(crate) kind: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) actor: Option<String>,
}

impl OperationState {
    const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::Superseded, Self::Cancelled];

    /// As in the column `state`, and on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl Change {
    /// None: something is asked of what it is about.
    pub(super) fn none(target: Target) -> Self {
        Self { target, revision: None, before: None, after: None }
    }
}

/// Notes an operation in the transaction that does it. What was under way on the same object is
/// superseded, or cancelled if that is what is done: all of it by a change, former actions by an
/// action.
pub(super) async fn begin(
    writing: &mut SqliteConnection,
    cause: Cause<'_>,
    change: Change,
) -> Result<Operation, StoreError> {
    let Change { target, revision, before, after } = change;
    let (number, at) = (sequence(writing, "operations", 1).await?, unix_millis());
    let number = number.unwrap_or_default();
    let (state, what) = match cause.verb {
        Verb::Cancel => (OperationState::Cancelled, "called it off"),
        _ => (OperationState::Superseded, "came first"),
    };
    let is_overtaken = format!(
        "UPDATE operations SET state = $1, settled_at = $2, message = $3
         WHERE state IS NULL AND kind = $4 AND name = $5 AND (revision IS NULL OR $6)
         AND (verb NOT IN ({}) OR verb = $7)",
        conducted()
    );
    sqlx::query(AssertSqlSafe(is_overtaken))
        .bind(state.as_str())
        .bind(at)
        .bind(format!("{} by op_{number} {what}", cause.verb.as_str()))
        .bind(&target.kind)
        .bind(&target.name)
        .bind(revision.is_some())
        .bind(cause.verb.as_str())
        .execute(&mut *writing)
        .await?;
    sqlx::query(
        "INSERT INTO operations (number, at, actor, verb, kind, name, generation, deployment,
            revision, before, after)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(signed(number))
    .bind(at)
    .bind(cause.actor)
    .bind(cause.verb.as_str())
    .bind(&target.kind)
    .bind(&target.name)
    .bind(signed(target.generation))
    .bind(target.deployment.map(signed))
    .bind(revision.map(signed))
    .bind(&before)
    .bind(&after)
    .execute(&mut *writing)
    .await?;
    sqlx::query("DELETE FROM operations WHERE number <= $1")
        .bind(signed(number) - KEPT_OPERATIONS)
        .execute(&mut *writing)
        .await?;
    idempotency::done(writing, cause, number).await?;
    let (actor, verb) = (cause.actor.to_owned(), cause.verb.as_str().to_owned());
    Ok(Operation { number, at, actor, verb, target, revision, before, after, outcome: None })
}

/// Notes an operation that is done with this transaction.
pub(super) async fn note_done(
    writing: &mut SqliteConnection,
    cause: Cause<'_>,
    change: Change,
    message: String,
) -> Result<Operation, StoreError> {
    note_ended(writing, cause, change, OperationState::Succeeded, message).await
}

/// Notes an operation of which it is known what came of it.
async fn note_ended(
    writing: &mut SqliteConnection,
    cause: Cause<'_>,
    change: Change,
    state: OperationState,
    message: String,
) -> Result<Operation, StoreError> {
    let operation = begin(writing, cause, change).await?;
    let outcome = Outcome { state, message, at: operation.at };
    settle(writing, operation.number, &outcome).await?;
    Ok(Operation { outcome: Some(outcome), ..operation })
}

/// Notes what came of an operation; false if that is noted already.
async fn settle(
    writing: &mut SqliteConnection,
    number: u64,
    outcome: &Outcome,
) -> Result<bool, StoreError> {
    let settled = sqlx::query(
        "UPDATE operations SET state = $1, message = $2, settled_at = $3
         WHERE number = $4 AND state IS NULL",
    )
    .bind(outcome.state.as_str())
    .bind(&outcome.message)
    .bind(outcome.at)
    .bind(signed(number))
    .execute(writing)
    .await?;
    Ok(settled.rows_affected() > 0)
}

/// The verbs of operations that go on by themselves, as SQL takes them.
fn conducted() -> String {
    Verb::CONDUCTED.map(|verb| format!("'{}'", verb.as_str())).join(", ")
}

impl Store {
    /// Notes an action on an object: something that is asked of it without changing its spec.
    pub(crate) async fn act(
        &self,
        cause: Cause<'_>,
        target: Target,
    ) -> Result<Operation, StoreError> {
        let change = Change::none(target);
        let begun = self.write(async |writing| begin(writing, cause, change).await).await?;
        self.operations_are_new();
        Ok(begun)
    }

    /// Notes an action that is done by now.
    pub(crate) async fn act_done(
        &self,
        cause: Cause<'_>,
        target: Target,
        message: String,
    ) -> Result<Operation, StoreError> {
        self.act_ended(cause, target, OperationState::Succeeded, message).await
    }

    /// Notes an action of which it is known what came of it.
    pub(crate) async fn act_ended(
        &self,
        cause: Cause<'_>,
        target: Target,
        state: OperationState,
        message: String,
    ) -> Result<Operation, StoreError> {
        let change = Change::none(target);
        let ended = self
            .write(async |writing| note_ended(writing, cause, change, state, message).await)
            .await?;
        self.operations_are_new();
        Ok(ended)
    }

    pub(crate) async fn operation(&self, number: u64) -> Result<Option<Operation>, StoreError> {
        let row = sqlx::query("SELECT * FROM operations WHERE number = $1")
            .bind(signed(number))
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(Operation::of).transpose()
    }

    /// The newest first.
    pub(crate) async fn operations(
        &self,
        filter: &OperationFilter,
        page: &Page<u64>,
    ) -> Result<Vec<Operation>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM operations WHERE number < $1 AND ($2 IS NULL OR kind = $2)
             AND ($3 IS NULL OR name = $3) AND ($4 IS NULL OR actor = $4)
             ORDER BY number DESC LIMIT $5",
        )
        .bind(page.after.map_or(i64::MAX, signed))
        .bind(&filter.kind)
        .bind(&filter.name)
        .bind(&filter.actor)
        .bind(page.limit())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(Operation::of).collect()
    }

    /// Those that are not settled, the oldest first.
    pub(crate) async fn open_operations(&self) -> Result<Vec<Operation>, StoreError> {
        let select = "SELECT * FROM operations WHERE state IS NULL ORDER BY number";
        let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(&self.readers).await?;
        rows.iter().map(Operation::of).collect()
    }

    /// Notes what came of operations, unless that is noted already.
    pub(crate) async fn settle(&self, settled: &[(u64, Outcome)]) -> Result<(), StoreError> {
        let noted = self.write(async |writing| {
            for (number, outcome) in settled {
                settle(writing, *number, outcome).await?;
            }
            Ok(())
        });
        noted.await?;
        self.operations_are_new();
        Ok(())
    }

    /// Calls off an operation that goes on by itself. What it has begun is not undone. Returns the
    /// operation that this is.
    ///
    /// # Errors
    /// [`StoreError::NotCancelled`] of one that is settled, or that does not go on by itself.
    pub(crate) async fn cancel_operation(
        &self,
        operation: &Operation,
        cause: Cause<'_>,
    ) -> Result<Operation, StoreError> {
        let number = operation.number;
        let called_off = self.write(async |writing| {
            let message = format!("called off by {}", cause.actor);
            let outcome = Outcome { state: OperationState::Cancelled, message, at: unix_millis() };
            if !operation.is_conducted() || !settle(writing, number, &outcome).await? {
                return Err(StoreError::NotCancelled(number));
            }
            let change = Change::none(operation.target.clone());
            note_done(writing, cause, change, format!("op_{number} is called off")).await
        });
        let done = called_off.await?;
        self.operations_are_new();
        Ok(done)
    }
}

impl Operation {
    /// Whether it goes on by itself until it is done.
    pub(crate) fn is_conducted(&self) -> bool {
        Verb::CONDUCTED.iter().any(|verb| verb.as_str() == self.verb)
    }

    pub(crate) fn is_of(&self, kind: Kind) -> bool {
        self.target.kind == kind.as_str()
    }

    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let state: Option<String> = row.try_get("state")?;
        let outcome = match state.as_deref().and_then(OperationState::parse) {
            None => None,
            Some(state) => {
                let (message, at) = (row.try_get("message"), row.try_get("settled_at"));
                let (message, at): (Option<String>, Option<i64>) = (message?, at?);
                let at = at.unwrap_or_default();
                Some(Outcome { state, message: message.unwrap_or_default(), at })
            }
        };
        Ok(Self {
            number: unsigned(row.try_get("number")?),
            at: row.try_get("at")?,
            actor: row.try_get("actor")?,
            verb: row.try_get("verb")?,
            target: Target {
                kind: row.try_get("kind")?,
                name: row.try_get("name")?,
                generation: unsigned(row.try_get("generation")?),
                deployment: row.try_get::<Option<i64>, _>("deployment")?.map(unsigned),
            },
            revision: row.try_get::<Option<i64>, _>("revision")?.map(unsigned),
            before: row.try_get("before")?,
            after: row.try_get("after")?,
            outcome,
        })
    }
}
