//! What has changed since a place in the history, for those who watch.

use std::{fmt, str::FromStr};

use sqlx::{Row, SqliteConnection};

use super::{Kind, Store, StoreError, revision, signed, unsigned};

/// A place in the history: everything up to it has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The last change of a spec.
    pub(crate) revision: u64,
    /// The last event; `None` for as many as there are by now.
    pub(crate) event: Option<u64>,
}

/// What has changed after a place, each object once.
#[derive(Debug)]
pub(crate) struct ChangedObjects {
    pub(crate) objects: Vec<(Kind, String)>,
    /// How far this reaches.
    pub(crate) up_to: Place,
}

impl Store {
    /// Where the history is.
    pub(crate) async fn place(&self) -> Result<Place, StoreError> {
        let mut reading = self.readers.begin().await?;
        here(&mut reading).await
    }

    /// The objects of these kinds that something has happened to, or that were changed; `None` if
    /// that is too long ago to tell.
    pub(crate) async fn changed_since(
        &self,
        place: Place,
        kinds: &[Kind],
    ) -> Result<Option<ChangedObjects>, StoreError> {
        let mut reading = self.readers.begin().await?;
        let up_to = here(&mut reading).await?;
        let event = place.event.or(up_to.event).unwrap_or_default();
        let kept = sqlx::query(
            "SELECT (SELECT MIN(rev) FROM changes) AS rev, (SELECT MIN(id) FROM events) AS id",
        );
        let kept = kept.fetch_one(&mut *reading).await?;
        let first = |column| Ok::<_, StoreError>(kept.try_get::<Option<i64>, _>(column)?);
        // If none are kept, the next one would be the first.
        let next = |last: u64| signed(last) + 1;
        let oldest_change = first("rev")?.unwrap_or_else(|| next(up_to.revision));
        let oldest_event = first("id")?.unwrap_or_else(|| next(up_to.event.unwrap_or_default()));
        if next(place.revision) < oldest_change
            || next(event) < oldest_event
            || place.revision > up_to.revision
        {
            return Ok(None);
        }
        let rows = sqlx::query(
            "SELECT DISTINCT kind, name FROM changes WHERE rev > $1
             UNION SELECT DISTINCT kind, name FROM events WHERE id > $2",
        )
        .bind(signed(place.revision))
        .bind(signed(event))
        .fetch_all(&mut *reading)
        .await?;
        let mut objects = Vec::new();
        for row in &rows {
            let kind = Kind::parse(row.try_get("kind")?);
            if let Some(kind) = kind.filter(|kind| kinds.contains(kind)) {
                objects.push((kind, row.try_get("name")?));
            }
        }
        Ok(Some(ChangedObjects { objects, up_to }))
    }
}

async fn here(reading: &mut SqliteConnection) -> Result<Place, StoreError> {
    let revision = revision(reading).await?;
    let row = sqlx::query("SELECT last FROM counters WHERE name = 'events'");
    let row = row.fetch_optional(reading).await?;
    let event = row.map(|row| row.try_get("last").map(unsigned)).transpose()?;
    Ok(Place { revision, event: Some(event.unwrap_or_default()) })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Some(event) => write!(f, "{}.{event}", self.revision),
            None => write!(f, "{}", self.revision),
        }
    }
}

impl FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (revision, event) = match text.split_once('.') {
            Some((revision, event)) => (revision, Some(event.parse()?)),
            None => (text, None),
        };
        Ok(Self { revision: revision.parse()?, event })
    }
}
