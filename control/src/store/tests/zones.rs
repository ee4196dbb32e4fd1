//! Zones and their records.

use weir_config::{
    DesiredZone, DnsName, HostedZone, ImportedZone, RecordSetSpec, WrittenType, ZoneManifest,
    ZoneName, parse_documents,
};

use super::*;
use crate::store::{Holds, ReadZone, RecordChange, Touched};

fn zone_name() -> ZoneName {
    "example.com".parse().unwrap()
}

fn change(at: &str, rtype: &str, data: &[&str]) -> RecordChange {
    let data = data.iter().map(|&line| line.to_owned()).collect();
    let spec = RecordSetSpec { name: at.into(), r#type: rtype.into(), ttl: None, data };
    let (name, rtype, set) = spec.read(&zone_name()).unwrap();
    RecordChange { name, rtype, set }
}

impl Bench {
    async fn put_zone(&self, spec: &str) -> HostedZone {
        let text = format!("kind: Zone\nname: example.com\nspec: {spec}");
        let manifest: ZoneManifest = parse_documents(&text).unwrap()[0].decode().unwrap();
        let zone = HostedZone::from_manifest(&manifest).unwrap();
        self.store.put(&manifest.spec, &zone, Precondition::None, PUT).await.unwrap();
        zone
    }

    async fn change(&self, changes: &[RecordChange]) -> Result<u64, StoreError> {
        self.change_if(changes, Holds::OfZone(Precondition::None)).await
    }

    async fn change_if(&self, changes: &[RecordChange], holds: Holds) -> Result<u64, StoreError> {
        let changed = self.store.change_records(&zone_name(), changes, holds, PUT).await;
        changed.map(|changed| changed.revision)
    }

    async fn zone(&self) -> DesiredZone {
        self.store.zone(&zone_name(), None).await.unwrap().unwrap().zone
    }

    async fn names(&self) -> u64 {
        self.store.read::<HostedZone>(&zone_name()).await.unwrap().extra.names
    }
}

fn sets(zone: &DesiredZone) -> Vec<String> {
    let custom = zone.custom.iter().map(|(name, set)| {
        let rtype = WrittenType::Of(set.rtype());
        let data: Vec<_> = set.data().map(|data| rtype.print(data)).collect();
        format!("{name} {rtype} {}", data.join(", "))
    });
    let aliases = zone.aliases.iter().map(|(name, alias)| format!("{name} ALIAS {}", alias.target));
    custom.chain(aliases).collect()
}

const SPEC: &str = "{addresses: [192.0.2.1]}";

#[tokio::test]
async fn what_is_written_is_read_and_a_change_is_read_into_what_was_before() {
    let bench = Bench::new().await;
    bench.put_zone(SPEC).await;
    let first = bench
        .change(&[
            change("www", "A", &["192.0.2.7", "192.0.2.8"]),
            change("@", "ALIAS", &["other.example."]),
            change(r"odd\.name.x y".replace(' ', r"\032").as_str(), "TXT", &[r#""a\010b" "\"""#]),
        ])
        .await
        .unwrap();
    let zone = bench.zone().await;
    let expected = [
        "www.example.com A 192.0.2.7, 192.0.2.8",
        r#"odd\.name.x\032y.example.com TXT "a\010b" "\"""#,
        "example.com ALIAS other.example",
    ];
    assert_eq!(sets(&zone), expected);
    assert_eq!(bench.names().await, 3);
    assert_eq!(
        bench.change(&[change("www", "A", &["192.0.2.8", "192.0.2.7"])]).await.unwrap(),
        first
    );

    bench
        .change(&[change("www", "A", &[]), change("www", "AAAA", &["2001:db8::1"])])
        .await
        .unwrap();
    let read = bench.store.zone(&zone_name(), Some((&zone, first))).await.unwrap().unwrap();
    let www: DnsName = "www.example.com".parse().unwrap();
    assert_eq!(read.touched, Touched::Names(vec![www.clone(), www]), "only what has changed");
    assert_eq!(sets(&read.zone), sets(&bench.zone().await));
    assert_eq!(sets(&read.zone)[0], "www.example.com AAAA 2001:db8::1");

    // Another spec concerns everything, and so does a delegation.
    let seen = read.zone.revision;
    bench.put_zone("{addresses: [192.0.2.1], ttl: {records: 1h}}").await;
    let ReadZone { zone, touched } =
        bench.store.zone(&zone_name(), Some((&read.zone, seen))).await.unwrap().unwrap();
    assert_eq!(touched, Touched::Everything);
    assert_eq!(zone.custom.iter().next().unwrap().1.ttl(), 3600);
    let seen = zone.revision;
    bench.change(&[change("sub", "NS", &["ns.other.net."])]).await.unwrap();
    let read = bench.store.zone(&zone_name(), Some((&zone, seen))).await.unwrap().unwrap();
    assert_eq!(read.touched, Touched::Everything);
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_and_nothing_is_changed() {
    let bench = Bench::new().await;
    bench.put_zone(SPEC).await;
    bench
        .change(&[
            change("a", "CNAME", &["b.example."]),
            change("d", "DNAME", &["e.example."]),
            change("x.y.z", "A", &["192.0.2.1"]),
            change("s", "NS", &["ns.s.example.com."]),
            change("ns.s", "A", &["192.0.2.53"]),
        ])
        .await
        .unwrap();
    let before = sets(&bench.zone().await);
    for (changes, pointer, part) in [
        (vec![change("ok", "A", &["192.0.2.1"]), change("a", "TXT", &["x"])], "/1", "has a CNAME"),
        (vec![change("x.d", "A", &["192.0.2.1"])], "/0", "is below d.example.com"),
        (vec![change("y.z", "DNAME", &["e.example."])], "/0", "records below it"),
        (vec![change("ns.s", "A", &[])], "/0", "(glue)"),
        (vec![change("t", "NS", &["ns.t.example.com."])], "/0", "(glue)"),
    ] {
        let Err(StoreError::Records(problems)) = bench.change(&changes).await else {
            panic!("{changes:?} is taken");
        };
        assert_eq!(problems.0[0].pointer, pointer, "{problems}");
        assert!(problems.0[0].message.contains(part), "{problems}");
    }
    assert_eq!(sets(&bench.zone().await), before);
    assert_eq!(bench.names().await, 5);
    // Together, and in whatever order, they may.
    let moved = [change("a", "CNAME", &[]), change("a", "TXT", &["x"])];
    bench.change(&moved).await.unwrap();
    let gone = [change("s", "NS", &[]), change("ns.s", "A", &[])];
    bench.change(&gone).await.unwrap();
    assert_eq!(bench.names().await, 3);
}

#[tokio::test]
async fn a_set_has_a_revision_of_its_own_to_go_by() {
    let bench = Bench::new().await;
    bench.put_zone(SPEC).await;
    let write = async |data: &str, holds| {
        bench.change_if(&[change("www", "A", &[data])], Holds::OfSets(holds)).await
    };
    let first = write("192.0.2.1", Precondition::New).await.unwrap();
    let taken = write("192.0.2.2", Precondition::New).await;
    assert!(matches!(taken, Err(StoreError::NameTaken { .. })), "{taken:?}");
    bench.change(&[change("other", "A", &["192.0.2.1"])]).await.unwrap();
    let second = write("192.0.2.2", Precondition::Revision(first)).await.unwrap();
    let late = write("192.0.2.3", Precondition::Revision(first)).await;
    assert!(matches!(late, Err(StoreError::Conflict { found, .. }) if found == second), "{late:?}");
}

#[tokio::test]
async fn a_zones_records_have_a_revision_to_go_by() {
    let bench = Bench::new().await;
    let zone = bench.put_zone(SPEC).await;
    let write = async |data: &str, holds| {
        bench.change_if(&[change("www", "A", &[data])], Holds::OfZone(holds)).await
    };
    let first = write("192.0.2.1", Precondition::Exists).await.unwrap();
    let new = write("192.0.2.2", Precondition::New).await;
    assert!(matches!(new, Err(StoreError::NameTaken { .. })), "{new:?}");
    // A change of the zone's spec is none of its records.
    bench.put_zone("{addresses: [192.0.2.1], ttl: {records: 1h}}").await;
    let second = write("192.0.2.2", Precondition::Revision(first)).await.unwrap();
    let late = bench
        .change_if(
            &[change("other", "A", &["192.0.2.1"])],
            Holds::OfZone(Precondition::Revision(first)),
        )
        .await;
    assert!(matches!(late, Err(StoreError::Conflict { found, .. }) if found == second), "{late:?}");
    // As it was listed later, while nothing has changed.
    let third = write("192.0.2.3", Precondition::Revision(second + 7)).await.unwrap();
    let file = ImportedZone::read("www A 192.0.2.4\n", &zone).unwrap();
    bench.store.import_records(&zone_name(), &file.sets, None, PUT).await.unwrap();
    let late = write("192.0.2.5", Precondition::Revision(third)).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "an import: {late:?}");
}

#[tokio::test]
async fn an_import_takes_the_place_of_everything() {
    let bench = Bench::new().await;
    let zone = bench.put_zone(SPEC).await;
    bench.change(&[change("former", "A", &["192.0.2.1"])]).await.unwrap();
    let former = bench.zone().await;
    let text = "$TTL 60\n@ SOA ns.x. h.x. 3000000000 1h 1h 1w 1m\n  NS ns.x.\n  MX 5 m\n\
                m A 192.0.2.1\n  A 192.0.2.2\n";
    let file = ImportedZone::read(text, &zone).unwrap();
    assert_eq!(file.left_out.len(), 2);
    let name = zone_name();
    bench.store.import_records(&name, &file.sets, file.serial, PUT).await.unwrap();
    let seen = former.revision;
    let read = bench.store.zone(&name, Some((&former, seen))).await.unwrap().unwrap();
    assert_eq!(read.touched, Touched::Everything);
    let expected = ["example.com MX 5 m.example.com.", "m.example.com A 192.0.2.1, 192.0.2.2"];
    assert_eq!(sets(&read.zone), expected);
    assert_eq!(bench.names().await, 2);
    assert_eq!(read.zone.serials.first as u32, 3_000_000_001, "after that of the file");
    // What it had before is removed in time, and what it has now is not.
    sqlx::query("UPDATE loose_contents SET since = 0")
        .execute(bench.store.writer.pool())
        .await
        .unwrap();
    bench.store.prune().await.unwrap();
    let rows = sqlx::query("SELECT content FROM record_sets").fetch_all(&bench.store.readers);
    assert_eq!(rows.await.unwrap().len(), 2);
}

#[tokio::test]
async fn serials_only_grow() {
    let mut bench = Bench::new().await;
    bench.put_zone(SPEC).await;
    let first = bench.zone().await.serials;
    assert!(first.first > 1_700_000_000, "as the time is, for secondaries that know former ones");
    bench.store.more_serials(&zone_name(), first.last).await.unwrap();
    let more = bench.zone().await.serials;
    assert_eq!(more.first, first.first);
    assert!(more.last >= first.last + 1024);
    bench.reopen("test.example").await;
    let next = bench.zone().await.serials;
    assert!(next.first > more.last, "none is served twice by two processes");
    bench.store.delete::<HostedZone>(&zone_name(), Precondition::None, DELETE).await.unwrap();
    assert!(bench.store.zone(&zone_name(), None).await.unwrap().is_none());
    bench.put_zone(SPEC).await;
    let anew = bench.zone().await;
    assert!(anew.serials.first > next.last, "any of those before may have been served");
    assert!(anew.serials.last >= anew.serials.first + 1000, "there are as many as ever");
    assert_eq!(sets(&anew), [""; 0], "without its former records");
}
