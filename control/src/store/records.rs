//! The records of zones, a row for each name and type.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use weir_config::{
    DesiredZone, DnsName, HostedZone, Hostname, MAX_NAMES, Problem, Problems, RecordType,
    WrittenSet, WrittenType, ZoneName,
};

use super::{
    Cause, Kind, Operation, Precondition, Record, Store, StoreError, next_revision,
    objects::select,
    operations::{Change, begin},
    record_change, record_path, revision, signed, unsigned,
    zones::{next_content, pass_serial, replace_content},
};
use crate::{redact::redacted, time::unix_millis};

/// The records of a name and type, written anew or deleted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordChange {
    pub(crate) name: DnsName,
    pub(crate) rtype: WrittenType,
    pub(crate) set: Option<WrittenSet>,
}

/// The records of a name and type as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredSet {
    pub(crate) name: DnsName,
    pub(crate) set: WrittenSet,
    /// That wrote it; zero if it came with all others.
    pub(crate) revision: u64,
}

/// What a change of records asks to be so before it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holds {
    /// Of each set that is changed.
    OfSets(Precondition),
    /// Of all records of the zone: a revision is the last one that may have changed them.
    OfZone(Precondition),
}

/// What a change of records came to.
#[derive(Debug)]
pub(crate) struct ChangedRecords {
    /// `None` when everything was as written already: then no revision was taken.
    pub(crate) operation: Option<Operation>,
    /// As of which it is so.
    pub(crate) revision: u64,
}

/// Rows that are written by one statement, and in one transaction of an import.
const BATCH: usize = 2000;
/// Rows that are removed in one transaction.
const REMOVED_AT_ONCE: i64 = 5000;
/// An import that takes longer than this has died.
const LOOSE_FOR_MS: i64 = 3600 * 1000;

const COLUMNS: &str = "path, rtype, ttl, data, revision";

impl Store {
    /// The records of one name and type.
    pub(crate) async fn record_set(
        &self,
        zone: &ZoneName,
        name: &DnsName,
        rtype: WrittenType,
    ) -> Result<Option<StoredSet>, StoreError> {
        let mut reading = self.readers.begin().await?;
        let stored = stored_zone(&mut reading, zone).await?;
        one_set(&mut reading, stored.extra.content, zone, name, rtype).await
    }

    /// Changes sets of a zone, all of them or none.
    ///
    /// # Errors
    /// [`StoreError::Records`] if they do not go together with the others, those of the
    /// precondition, and of the database; nothing is changed.
    pub(crate) async fn change_records(
        &self,
        zone: &ZoneName,
        changes: &[RecordChange],
        holds: Holds,
        cause: Cause<'_>,
    ) -> Result<ChangedRecords, StoreError> {
        let changed = self.write(async |writing| {
            let stored = stored_zone(writing, zone).await?;
            if let Holds::OfZone(holds) = holds {
                check_zone(holds, &stored)?;
            }
            let content = stored.extra.content;
            let mut effective = Vec::new();
            for (i, change) in changes.iter().enumerate() {
                let RecordChange { name, rtype, set } = change;
                let former = one_set(writing, content, zone, name, *rtype).await?;
                if let Holds::OfSets(holds) = holds {
                    check(holds, former.as_ref(), name)?;
                }
                if former.as_ref().map(|former| &former.set) != set.as_ref() {
                    effective.push((i, former, change));
                }
            }
            if effective.is_empty() {
                let revision = revision(writing).await?;
                return Ok(ChangedRecords { operation: None, revision });
            }
            let revision = next_revision(writing).await?;
            let paths: BTreeSet<_> =
                effective.iter().map(|(_, _, c)| record_path::of(&c.name, zone)).collect();
            let before = names_with_records(writing, content, &paths).await?;
            let rows: Vec<_> = effective.iter().map(|(_, _, change)| *change).collect();
            for rows in rows.chunks(BATCH) {
                let rows = rows.iter().map(|c| (&c.name, c.rtype, c.set.as_ref()));
                upsert(writing, content, zone, revision, rows).await?;
            }
            let names = stored.extra.names + names_with_records(writing, content, &paths).await?;
            let names = names.saturating_sub(before);
            records_changed(writing, zone, names, revision).await?;
            let mut problems = Problems::default();
            for (i, _, change) in &effective {
                let around = neighbourhood(writing, &stored, change, &self.base_domain).await?;
                problems.take(&format!("/{i}"), "conflict", around.lint(&change.name));
            }
            problems.or_value(()).map_err(StoreError::Records)?;
            record_change(writing, revision, Kind::Zone, zone).await?;
            let shown = |sets: Vec<Option<serde_json::Value>>| {
                redacted(&serde_json::json!({ "records": sets }))
            };
            let spec = |name: &DnsName, set: &WrittenSet| serde_json::to_value(set.spec(name)).ok();
            let former = effective.iter().map(|(_, f, c)| spec(&c.name, &f.as_ref()?.set));
            let latter = effective.iter().map(|(_, _, c)| spec(&c.name, c.set.as_ref()?));
            let (before, after) = (shown(former.collect()), shown(latter.collect()));
            let change =
                Change { target: stored.target(), revision: Some(revision), before, after };
            let operation = Some(begin(writing, cause, change).await?);
            Ok(ChangedRecords { operation, revision })
        });
        let changed = changed.await?;
        self.committed(changed.revision);
        Ok(changed)
    }

    /// Makes these all records of a zone, in the place of those that it has. They are written in
    /// transactions of their own, a bounded number at a time, and become the zone's in the last one.
    ///
    /// # Errors
    /// [`StoreError::Records`] if there are too many, [`StoreError::NotFound`], and those of the
    /// database; the zone has its former records.
    pub(crate) async fn import_records(
        &self,
        zone: &ZoneName,
        sets: &BTreeMap<(DnsName, WrittenType), WrittenSet>,
        serial: Option<u32>,
        cause: Cause<'_>,
    ) -> Result<ChangedRecords, StoreError> {
        let content = self.write(async |writing| {
            let content = next_content(writing).await?;
            sqlx::query("INSERT INTO loose_contents (content, since) VALUES ($1, $2)")
                .bind(signed(content))
                .bind(unix_millis())
                .execute(writing)
                .await?;
            Ok(content)
        });
        let content = content.await?;
        let rows: Vec<_> = sets.iter().map(|((name, rtype), set)| (name, *rtype, set)).collect();
        for rows in rows.chunks(BATCH) {
            let written = self.write(async |writing| {
                let rows = rows.iter().map(|(name, rtype, set)| (*name, *rtype, Some(*set)));
                upsert(writing, content, zone, 0, rows).await
            });
            written.await?;
        }
        let changed = self.write(async |writing| {
            let stored = stored_zone(writing, zone).await?;
            let names: BTreeSet<_> = sets.keys().map(|(name, _)| name).collect();
            let names = names.len() as u64;
            let revision = next_revision(writing).await?;
            replace_content(writing, zone, content, names).await?;
            records_changed(writing, zone, names, revision).await?;
            if let Some(serial) = serial {
                pass_serial(writing, zone, serial).await?;
            }
            record_change(writing, revision, Kind::Zone, zone).await?;
            let count = |names: u64| redacted(&serde_json::json!({ "names": names }));
            let (before, after) = (count(stored.extra.names), count(names));
            let change =
                Change { target: stored.target(), revision: Some(revision), before, after };
            let operation = Some(begin(writing, cause, change).await?);
            Ok(ChangedRecords { operation, revision })
        });
        let changed = changed.await?;
        self.committed(changed.revision);
        Ok(changed)
    }

    /// Removes some rows that are no zone's; returns whether there may be more.
    pub(super) async fn remove_loose(&self) -> Result<bool, StoreError> {
        let removed = self.write(async |writing| {
            let loose = sqlx::query(
                "SELECT content FROM loose_contents WHERE since < $1 ORDER BY content LIMIT 1",
            );
            let loose = loose.bind(unix_millis() - LOOSE_FOR_MS);
            let Some(row) = loose.fetch_optional(&mut *writing).await? else { return Ok(false) };
            let content: i64 = row.try_get("content")?;
            let removed = sqlx::query(
                "DELETE FROM record_sets WHERE content = $1 AND path IN (SELECT path
                   FROM record_sets WHERE content = $1 ORDER BY path LIMIT $2)",
            )
            .bind(content)
            .bind(REMOVED_AT_ONCE)
            .execute(&mut *writing)
            .await?;
            if removed.rows_affected() == 0 {
                sqlx::query("DELETE FROM loose_contents WHERE content = $1")
                    .bind(content)
                    .execute(writing)
                    .await?;
            }
            Ok(true)
        });
        removed.await
    }
}

/// Reads what is written after a revision into a zone, or everything into an empty one; returns the
/// names concerned, or `None` if there may be others: a cut or a DNAME says what is below it.
pub(super) async fn read_since(
    reading: &mut SqliteConnection,
    zone: &mut DesiredZone,
    seen: Option<u64>,
) -> Result<Option<Vec<DnsName>>, StoreError> {
    use futures::TryStreamExt;
    let select = match seen {
        None => "SELECT path, rtype, ttl, data, revision FROM record_sets WHERE content = $1",
        Some(_) => {
            "SELECT path, rtype, ttl, data, revision FROM record_sets
             WHERE content = $1 AND revision > $2"
        }
    };
    let mut query = sqlx::query(select).bind(signed(zone.content));
    if let Some(seen) = seen {
        query = query.bind(signed(seen));
    }
    let mut rows = query.fetch(reading);
    let (mut names, mut is_bounded) = (Vec::new(), seen.is_some());
    while let Some(row) = rows.try_next().await? {
        let (name, rtype, set) = read_row(&row, &zone.zone.name)?;
        is_bounded &= !matches!(rtype, WrittenType::Of(RecordType::NS | RecordType::DNAME));
        zone.write(&name, rtype, set);
        if is_bounded {
            names.push(name);
        }
    }
    Ok(is_bounded.then_some(names))
}

async fn stored_zone(
    connection: &mut SqliteConnection,
    zone: &ZoneName,
) -> Result<Record<HostedZone>, StoreError> {
    let found = select::<HostedZone>(connection, zone).await?;
    found.ok_or_else(|| StoreError::not_found(Kind::Zone, zone))
}

fn check_zone(holds: Precondition, zone: &Record<HostedZone>) -> Result<(), StoreError> {
    let (kind, found) = (Kind::Zone, zone.extra.records_revision);
    match holds {
        Precondition::New => Err(StoreError::NameTaken { kind, name: zone.name.to_string() }),
        Precondition::Revision(expected) if expected < found => {
            Err(StoreError::Conflict { kind, found, expected })
        }
        _ => Ok(()),
    }
}

fn check(
    holds: Precondition,
    former: Option<&StoredSet>,
    name: &DnsName,
) -> Result<(), StoreError> {
    let (kind, name) = (Kind::Zone, name.to_string());
    match (holds, former) {
        (Precondition::New, Some(_)) => Err(StoreError::NameTaken { kind, name }),
        (Precondition::Exists | Precondition::Revision(_), None) => {
            Err(StoreError::Absent { kind, name })
        }
        (Precondition::Revision(expected), Some(former)) if former.revision != expected => {
            Err(StoreError::Conflict { kind, found: former.revision, expected })
        }
        _ => Ok(()),
    }
}

async fn one_set(
    connection: &mut SqliteConnection,
    content: u64,
    zone: &ZoneName,
    name: &DnsName,
    rtype: WrittenType,
) -> Result<Option<StoredSet>, StoreError> {
    let row = sqlx::query(
        "SELECT path, rtype, ttl, data, revision FROM record_sets
         WHERE content = $1 AND path = $2 AND rtype = $3",
    )
    .bind(signed(content))
    .bind(record_path::of(name, zone))
    .bind(rtype.to_string())
    .fetch_optional(connection)
    .await?;
    row.map_or(Ok(None), |row| StoredSet::of(&row, zone))
}

async fn upsert<'a>(
    writing: &mut SqliteConnection,
    content: u64,
    zone: &ZoneName,
    revision: u64,
    rows: impl Iterator<Item = (&'a DnsName, WrittenType, Option<&'a WrittenSet>)>,
) -> Result<(), StoreError> {
    let mut insert =
        QueryBuilder::<Sqlite>::new(format!("INSERT INTO record_sets (content, {COLUMNS}) "));
    insert.push_values(rows, |mut row, (name, rtype, set)| {
        let lines = |set: &WrittenSet| {
            let lines: Vec<_> = set.data().map(|data| rtype.print(data)).collect();
            lines.join("\n")
        };
        row.push_bind(signed(content))
            .push_bind(record_path::of(name, zone))
            .push_bind(rtype.to_string())
            .push_bind(set.and_then(|set| set.ttl).map(i64::from))
            .push_bind(set.map(lines).unwrap_or_default())
            .push_bind(signed(revision));
    });
    insert.push(
        " ON CONFLICT (content, path, rtype) DO UPDATE SET ttl = excluded.ttl,
          data = excluded.data, revision = excluded.revision",
    );
    insert.build().execute(writing).await?;
    Ok(())
}

async fn names_with_records(
    connection: &mut SqliteConnection,
    content: u64,
    paths: &BTreeSet<String>,
) -> Result<u64, StoreError> {
    let mut count = 0;
    for path in paths {
        let row = sqlx::query(
            "SELECT 1 FROM record_sets WHERE content = $1 AND path = $2 AND data <> '' LIMIT 1",
        );
        let row = row.bind(signed(content)).bind(path).fetch_optional(&mut *connection).await?;
        count += u64::from(row.is_some());
    }
    Ok(count)
}

async fn records_changed(
    writing: &mut SqliteConnection,
    zone: &ZoneName,
    names: u64,
    revision: u64,
) -> Result<(), StoreError> {
    if names > MAX_NAMES {
        let message = format!("a zone has records at {MAX_NAMES} names at most, not at {names}");
        return Err(StoreError::Records(Problems(vec![Problem::new("", "too_many", message)])));
    }
    sqlx::query("UPDATE zones SET names = $2, records_revision = $3 WHERE zone = $1")
        .bind(&**zone)
        .bind(signed(names))
        .bind(signed(revision))
        .execute(writing)
        .await?;
    Ok(())
}

/// What decides whether a changed set goes together with the others: those of its name, of the
/// names above it, of one below it, and of the nameservers that are named there.
async fn neighbourhood(
    connection: &mut SqliteConnection,
    stored: &Record<HostedZone>,
    change: &RecordChange,
    base_domain: &Hostname,
) -> Result<DesiredZone, StoreError> {
    let name = &stored.name;
    let zone = stored.meant(base_domain)?;
    let mut around = DesiredZone { content: stored.extra.content, ..DesiredZone::new(zone) };
    let own = record_path::of(&change.name, name);
    let mut paths: Vec<_> = record_path::above(&own).into_iter().map(str::to_owned).collect();
    paths.push(own.clone());
    read_paths(connection, &mut around, &paths).await?;
    let below = sqlx::query(
        "SELECT path FROM record_sets WHERE content = $1 AND path > $2 AND path < $3
         AND data <> '' LIMIT 1",
    );
    let below = below.bind(signed(around.content)).bind(&own).bind(record_path::end(&own));
    let mut more = Vec::new();
    if let Some(row) = below.fetch_optional(&mut *connection).await? {
        more.push(row.try_get("path")?);
    }
    let servers = around.glue_of(&change.name);
    more.extend(servers.iter().map(|server| record_path::of(server, name)));
    read_paths(connection, &mut around, &more).await?;
    Ok(around)
}

async fn read_paths(
    connection: &mut SqliteConnection,
    zone: &mut DesiredZone,
    paths: &[String],
) -> Result<(), StoreError> {
    for path in paths {
        let rows = sqlx::query(
            "SELECT path, rtype, ttl, data, revision FROM record_sets
             WHERE content = $1 AND path = $2",
        );
        let rows = rows.bind(signed(zone.content)).bind(path).fetch_all(&mut *connection).await?;
        for row in &rows {
            let (name, rtype, set) = read_row(row, &zone.zone.name)?;
            zone.write(&name, rtype, set);
        }
    }
    Ok(())
}

fn read_row(
    row: &SqliteRow,
    zone: &ZoneName,
) -> Result<(DnsName, WrittenType, Option<WrittenSet>), StoreError> {
    let name = record_path::name(row.try_get("path")?, zone)?;
    let rtype: &str = row.try_get("rtype")?;
    let rtype: WrittenType = rtype.parse().map_err(StoreError::Corrupt)?;
    let (ttl, text): (Option<i64>, &str) = (row.try_get("ttl")?, row.try_get("data")?);
    if text.is_empty() {
        return Ok((name, rtype, None));
    }
    let corrupt = |why| StoreError::Corrupt(format!("{name} {rtype}: {why}"));
    let data = text.lines().map(|line| rtype.parse(line)).collect::<Result<_, _>>();
    let ttl = ttl.and_then(|ttl| u32::try_from(ttl).ok());
    let set = data.and_then(|data| WrittenSet::new(rtype, ttl, data)).map_err(corrupt)?;
    Ok((name, rtype, Some(set)))
}

impl StoredSet {
    fn of(row: &SqliteRow, zone: &ZoneName) -> Result<Option<Self>, StoreError> {
        let (name, _, set) = read_row(row, zone)?;
        let revision = unsigned(row.try_get("revision")?);
        Ok(set.map(|set| Self { name, set, revision }))
    }
}
