//! Zones: their specs, where their records are, and which serials may be served.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{
    DesiredZone, HostedZone, Hostname, Problems, Serials, ZoneManifest, ZoneName, ZoneSpec,
};

use super::{
    Kind, Page, Store, StoreError, Verb,
    objects::{Object, Record, select, select_page},
    parse_name, record_change, revision, sequence, signed, unsigned,
};
use crate::time::unix_millis;

/// What a zone has beside its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ZoneExtra {
    /// Which record sets are its.
    pub(super) content: u64,
    /// How many names it has records at.
    pub(crate) names: u64,
    /// That changed its records last.
    pub(super) records_revision: u64,
    serials: Serials,
}

/// So many serials are taken at once. A start leaves those of before behind.
const SERIALS: u64 = 1024;

const SELECT: &str = "SELECT zone, content, names, records_revision, serial_first, serial_last
    FROM zones WHERE content IS NOT NULL";

impl Object for HostedZone {
    const KIND: Kind = Kind::Zone;

    type Name = ZoneName;
    type Spec = ZoneSpec;
    type Extra = ZoneExtra;
    type Extras = HashMap<String, ZoneExtra>;
    type Meant = Self;

    fn name(&self) -> &ZoneName {
        &self.name
    }

    async fn read_extras(
        connection: &mut SqliteConnection,
        name: Option<&ZoneName>,
    ) -> Result<HashMap<String, ZoneExtra>, StoreError> {
        let rows = match name {
            Some(name) => {
                let select = AssertSqlSafe(format!("{SELECT} AND zone = $1"));
                sqlx::query(select).bind(&**name).fetch_all(connection).await?
            }
            None => sqlx::query(SELECT).fetch_all(connection).await?,
        };
        rows.iter().map(|row| Ok((row.try_get("zone")?, ZoneExtra::of(row)?))).collect()
    }

    fn extra(
        extras: &mut HashMap<String, ZoneExtra>,
        name: &ZoneName,
        _: &ZoneSpec,
    ) -> Result<ZoneExtra, StoreError> {
        let missing = || StoreError::Corrupt(format!("Zone/{name} has no content"));
        extras.remove(&**name).ok_or_else(missing)
    }

    fn meant(record: &Record<Self>, _: &Hostname) -> Result<Self, Problems> {
        let (kind, name) = (Kind::Zone.as_str().to_owned(), record.name.to_string());
        Self::from_manifest(&ZoneManifest { kind, name, spec: record.spec.clone() })
    }

    async fn write_extra(
        &self,
        writing: &mut SqliteConnection,
        former: Option<&Record<Self>>,
        _: Verb,
    ) -> Result<(), StoreError> {
        if former.is_some() {
            return Ok(());
        }
        let content = next_content(writing).await?;
        let now = unix_seconds();
        sqlx::query(
            "INSERT INTO zones (zone, content, names, serial_first, serial_last)
             VALUES ($1, $2, 0, $3 + 1, $3 + $4)
             ON CONFLICT (zone) DO UPDATE SET content = excluded.content, names = 0,
                serial_first = zones.serial_last + 1, serial_last = zones.serial_last + $4",
        )
        .bind(&**self.name())
        .bind(signed(content))
        .bind(signed(now))
        .bind(signed(SERIALS))
        .execute(writing)
        .await?;
        Ok(())
    }

    /// Its records are removed later, a little at a time.
    async fn delete_extra(
        writing: &mut SqliteConnection,
        name: &ZoneName,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO loose_contents (content, since) SELECT content, $2 FROM zones
             WHERE zone = $1 AND content IS NOT NULL",
        )
        .bind(&**name)
        .bind(unix_millis())
        .execute(&mut *writing)
        .await?;
        sqlx::query("UPDATE zones SET content = NULL, names = 0 WHERE zone = $1")
            .bind(&**name)
            .execute(writing)
            .await?;
        Ok(())
    }
}

/// A zone as it is read for the loop, and what has changed of it.
#[derive(Debug)]
pub(crate) struct ReadZone {
    pub(crate) zone: DesiredZone,
    pub(crate) touched: Touched,
}

/// Which names of a zone may be served otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Touched {
    Names(Vec<weir_config::DnsName>),
    Everything,
}

impl Store {
    /// Takes serials for this process: later than any that was served before, and than those of a
    /// former run which a restored copy of the database does not know, because nobody changes a zone
    /// more than once a second for long.
    pub(super) async fn renew_serials(&self) -> Result<(), StoreError> {
        let renewed = self.write(async |writing| {
            sqlx::query(
                "UPDATE zones SET
                   serial_first = CASE WHEN serial_last < $1 THEN $1 ELSE serial_last END + 1,
                   serial_last = CASE WHEN serial_last < $1 THEN $1 ELSE serial_last END + $2",
            )
            .bind(signed(unix_seconds()))
            .bind(signed(SERIALS))
            .execute(writing)
            .await?;
            Ok(())
        });
        renewed.await
    }

    /// Takes more serials for a zone, of which `next` is wanted first; returns whether there is such
    /// a zone. They come back by the feed.
    pub(crate) async fn more_serials(
        &self,
        zone: &ZoneName,
        next: u64,
    ) -> Result<bool, StoreError> {
        let revision = self
            .write(async |writing| {
                let taken = sqlx::query(
                    "UPDATE zones SET serial_last = $2
                     WHERE zone = $1 AND content IS NOT NULL AND serial_last < $2",
                )
                .bind(&**zone)
                .bind(signed(next + SERIALS))
                .execute(&mut *writing)
                .await?;
                if taken.rows_affected() == 0 {
                    return Ok(None);
                }
                let revision = super::next_revision(writing).await?;
                record_change(writing, revision, Kind::Zone, zone).await?;
                Ok(Some(revision))
            })
            .await?;
        if let Some(revision) = revision {
            self.committed(revision);
        }
        Ok(revision.is_some())
    }

    /// A zone as it is meant now. `former` is what it was as of the revision `seen`; what of it is
    /// the same is shared.
    pub(crate) async fn zone(
        &self,
        name: &ZoneName,
        former: Option<(&DesiredZone, u64)>,
    ) -> Result<Option<ReadZone>, StoreError> {
        let mut reading = self.readers.begin().await?;
        let Some(record) = select::<HostedZone>(&mut reading, name).await? else {
            return Ok(None);
        };
        self.read_zone(&mut reading, &record, former).await.map(Some)
    }

    /// All zones. One that cannot be read is told and left out.
    pub(super) async fn all_zones(
        &self,
        reading: &mut SqliteConnection,
        desired: &mut weir_config::Desired,
    ) -> Result<(), StoreError> {
        let (rows, mut extras) = select_page::<HostedZone>(reading, &Page::default()).await?;
        for row in &rows {
            let read = match Record::<HostedZone>::of(row, &mut extras) {
                Ok(record) => self.read_zone(reading, &record, None).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(ReadZone { zone, .. }) => {
                    desired.zones.insert(zone.zone.name.clone(), zone.into());
                }
                Err(error @ StoreError::Database(_)) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a zone cannot be read and is left as it is served");
                    desired.unreadable_zones.insert(parse_name(row)?);
                }
            }
        }
        Ok(())
    }

    async fn read_zone(
        &self,
        reading: &mut SqliteConnection,
        record: &Record<HostedZone>,
        former: Option<(&DesiredZone, u64)>,
    ) -> Result<ReadZone, StoreError> {
        let zone = record.meant(&self.base_domain)?;
        let revision = revision(reading).await?;
        let (generation, ZoneExtra { content, serials, .. }) =
            (record.meta.generation, record.extra.clone());
        let former = former.filter(|(former, _)| {
            former.content == content && former.zone.ttl.records == zone.ttl.records
        });
        let Some((former, seen)) = former else {
            let empty = DesiredZone::new(zone);
            let mut zone = DesiredZone { revision, generation, content, serials, ..empty };
            super::records::read_since(reading, &mut zone, None).await?;
            return Ok(ReadZone { zone, touched: Touched::Everything });
        };
        let is_same = former.zone == zone;
        let mut zone = DesiredZone { zone, revision, generation, serials, ..former.clone() };
        let names = super::records::read_since(reading, &mut zone, Some(seen)).await?;
        let touched = match names {
            Some(names) if is_same => Touched::Names(names),
            _ => Touched::Everything,
        };
        Ok(ReadZone { zone, touched })
    }
}

/// Lets go of what was a zone's content, and makes another one its.
pub(super) async fn replace_content(
    writing: &mut SqliteConnection,
    zone: &ZoneName,
    content: u64,
    names: u64,
) -> Result<(), StoreError> {
    <HostedZone as Object>::delete_extra(writing, zone).await?;
    sqlx::query("DELETE FROM loose_contents WHERE content = $1")
        .bind(signed(content))
        .execute(&mut *writing)
        .await?;
    sqlx::query("UPDATE zones SET content = $2, names = $3 WHERE zone = $1")
        .bind(&**zone)
        .bind(signed(content))
        .bind(signed(names))
        .execute(writing)
        .await?;
    Ok(())
}

/// Sees to it that the next serial is later than one that others have seen (RFC 1982).
pub(super) async fn pass_serial(
    writing: &mut SqliteConnection,
    zone: &ZoneName,
    seen: u32,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT serial_last FROM zones WHERE zone = $1").bind(&**zone);
    let last = unsigned(row.fetch_one(&mut *writing).await?.try_get("serial_last")?);
    let ahead = seen.wrapping_sub(last as u32);
    if ahead == 0 || ahead >= 1 << 31 {
        return Ok(());
    }
    sqlx::query("UPDATE zones SET serial_first = $2, serial_last = $3 WHERE zone = $1")
        .bind(&**zone)
        .bind(signed(last + u64::from(ahead) + 1))
        .bind(signed(last + u64::from(ahead) + SERIALS))
        .execute(writing)
        .await?;
    Ok(())
}

pub(super) async fn next_content(writing: &mut SqliteConnection) -> Result<u64, StoreError> {
    Ok(sequence(writing, "zone_contents", 1).await?.unwrap_or_default())
}

fn unix_seconds() -> u64 {
    unsigned(unix_millis() / 1000)
}

impl ZoneExtra {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let number = |column| Ok::<_, StoreError>(unsigned(row.try_get(column)?));
        Ok(Self {
            content: number("content")?,
            names: number("names")?,
            records_revision: number("records_revision")?,
            serials: Serials { first: number("serial_first")?, last: number("serial_last")? },
        })
    }
}
