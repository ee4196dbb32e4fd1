//! The store on a real SQLite file.

use std::time::Duration;

use weir_config::{
    App, AppManifest, AppName, DeploymentState, Ending, Host, HostName, Hostname, Moment, Shard,
    ShardName, parse_documents,
};

use super::{
    Cause, Changed, DeploymentRecord, Operation, Precondition, Store, StoreError, Verb, Written,
};
use crate::transition::{Stage, Transition};

const PUT: Cause<'_> = Cause { actor: "test", verb: Verb::Put, key: None };
const DELETE: Cause<'_> = Cause { actor: "test", verb: Verb::Delete, key: None };
const DEPLOY: Cause<'_> = Cause { actor: "test", verb: Verb::Deploy, key: None };

mod devices;
mod failover;
mod history;
mod writer;
mod zones;

struct Bench {
    store: Store,
    base: Hostname,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base: Hostname = "test.example".parse().unwrap();
        let store = Store::open(&dir.path().join("weir.db"), &base).await.unwrap();
        Self { store, base, dir }
    }

    async fn reopen(&mut self, base: &str) {
        self.base = base.parse().unwrap();
        self.store = Store::open(&self.dir.path().join("weir.db"), &self.base).await.unwrap();
    }

    async fn write(
        &self,
        name: &str,
        spec: &str,
        precondition: Precondition,
        redeploy: bool,
    ) -> Result<Written<App>, StoreError> {
        let text = format!("kind: App\nname: {name}\nspec: {spec}");
        let manifest: AppManifest = parse_documents(&text).unwrap()[0].decode().unwrap();
        let app = App::from_manifest(&manifest, &self.base).unwrap();
        let cause = if redeploy { DEPLOY } else { PUT };
        self.store.put(&manifest.spec, &app, precondition, cause).await
    }

    async fn put(&self, name: &str, spec: &str) -> Written<App> {
        self.write(name, spec, Precondition::None, false).await.unwrap()
    }

    async fn delete_app(&self, app: &str) -> Result<Operation, StoreError> {
        self.store.delete::<App>(&name(app), Precondition::None, DELETE).await
    }

    async fn write_shard(
        &self,
        name: &str,
        address: &str,
        precondition: Precondition,
    ) -> Result<Written<Shard>, StoreError> {
        let text =
            format!("kind: Shard\nname: {name}\nspec: {{members: [{{address: {address}}}]}}");
        let (manifest, shard) =
            Shard::read(parse_documents(&text).unwrap()[0].value.clone()).unwrap();
        self.store.put(&manifest.spec, &shard, precondition, PUT).await
    }

    async fn put_shard(&self, name: &str, address: &str) -> Written<Shard> {
        self.write_shard(name, address, Precondition::None).await.unwrap()
    }
}

fn number(written: &Written<App>) -> Option<u64> {
    written.record.extra.first().map(|deployment| deployment.number)
}

fn name(text: &str) -> AppName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_write_takes_the_next_revision_and_one_that_changes_nothing_takes_none() {
    let bench = Bench::new().await;
    let first = bench.put("shop", "{image: a}").await;
    assert!(first.created && first.operation.is_some());
    assert_eq!((first.record.meta.generation, first.record.meta.revision), (1, 1));
    let same = bench.put("shop", "{image: a}").await;
    assert!(!same.created && same.operation.is_none());
    assert_eq!(same.record.meta, first.record.meta);
    let other = bench.put("shop", "{image: a, instances: 2}").await;
    assert_eq!((other.record.meta.generation, other.record.meta.revision), (2, 2));
    assert_eq!(number(&other), Some(1), "the containers are made as before");
    let deployed = bench.put("shop", "{image: b, instances: 2}").await;
    assert_eq!(number(&deployed), Some(2));
    assert_eq!(*bench.store.revisions().borrow(), 3);
}

#[tokio::test]
async fn a_precondition_that_does_not_hold_changes_nothing() {
    let bench = Bench::new().await;
    bench.put("shop", "{image: a}").await;
    let taken = bench.write("shop", "{image: b}", Precondition::New, false).await;
    assert!(matches!(taken, Err(StoreError::NameTaken { .. })), "{taken:?}");
    let stale = bench.write("shop", "{image: b}", Precondition::Revision(9), false).await;
    assert!(matches!(stale, Err(StoreError::Conflict { found: 1, expected: 9, .. })), "{stale:?}");
    for holds in [Precondition::Revision(1), Precondition::Exists] {
        let absent = bench.write("other", "{image: b}", holds, false).await;
        assert!(matches!(absent, Err(StoreError::Absent { .. })), "{absent:?}");
        let absent = bench.store.delete::<App>(&name("other"), holds, DELETE).await;
        assert!(matches!(absent, Err(StoreError::Absent { .. })), "{absent:?}");
    }
    let stale = bench.store.delete::<App>(&name("shop"), Precondition::Revision(9), DELETE).await;
    assert!(matches!(stale, Err(StoreError::Conflict { found: 1, expected: 9, .. })), "{stale:?}");
    let record = bench.store.find::<App>(&name("shop")).await.unwrap().unwrap();
    assert_eq!((record.meta.revision, record.spec.image.as_deref()), (1, Some("a")));
}

#[tokio::test]
async fn a_host_name_belongs_to_one_app_until_it_is_given_up() {
    let bench = Bench::new().await;
    bench.put("one", "{image: a, hostnames: [www.example.com]}").await;
    for hostname in ["www.example.com", "one.test.example"] {
        let spec = format!("{{image: a, hostnames: [{hostname}]}}");
        let error = bench.write("two", &spec, Precondition::None, false).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{hostname} is served by the app `one` already; remove it there first")
        );
    }
    assert!(
        bench.store.find::<App>(&name("two")).await.unwrap().is_none(),
        "half a change was made"
    );
    bench.put("one", "{image: a}").await;
    bench.put("two", "{image: a, hostnames: [www.example.com]}").await;
}

#[tokio::test]
async fn a_deployment_number_never_means_two_things() {
    let bench = Bench::new().await;
    bench.put("shop", "{image: a}").await;
    let again = bench.write("shop", "{image: a}", Precondition::None, true).await.unwrap();
    assert_eq!(number(&again), Some(2), "the same image deployed anew");
    bench.delete_app("shop").await.unwrap();
    assert_eq!(number(&bench.put("shop", "{image: a}").await), Some(3));
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_also_under_another_base_domain() {
    let mut bench = Bench::new().await;
    bench.put("shop", "{image: a}").await;
    let cluster = bench.store.cluster_id().to_owned();
    bench.reopen("other.example").await;
    assert_eq!(bench.store.cluster_id(), cluster);
    let desired = bench.store.desired().await.unwrap();
    assert_eq!(desired.revision, 1);
    let app = &desired.apps[&name("shop")].app;
    assert_eq!(app.hostnames[0].to_string(), "shop.other.example");
    // The name under the former base domain is free.
    bench.put("two", "{image: a, hostnames: [shop.test.example]}").await;
}

#[tokio::test]
async fn followers_are_told_each_changed_app_once() {
    let bench = Bench::new().await;
    bench.put("one", "{image: a}").await;
    bench.put("two", "{image: a}").await;
    bench.put("one", "{image: b}").await;
    bench.delete_app("two").await.unwrap();
    let (last, names) = bench.store.changes_since(1).await.unwrap().unwrap();
    assert_eq!((last, names), (4, vec![Changed::App(name("two")), Changed::App(name("one"))]));
}

#[tokio::test]
async fn a_shard_is_written_as_an_app_is() {
    let mut bench = Bench::new().await;
    let first = bench.put_shard("east", "\"10.0.0.1:80\"").await;
    assert!(first.created && first.operation.is_some());
    let same = bench.put_shard("east", "\"10.0.0.1:80\"").await;
    assert!(!same.created && same.operation.is_none());
    let other = bench.put_shard("east", "\"10.0.0.2:80\"").await;
    assert_eq!((other.record.meta.generation, other.record.meta.revision), (2, 2));
    let stale = bench.write_shard("east", "\"10.0.0.3:80\"", Precondition::Revision(1)).await;
    assert_eq!(
        stale.unwrap_err().to_string(),
        "the shard has changed: it is at revision 2, not 1; read it again"
    );
    // An app may have the name of a shard.
    bench.put("east", "{shards: [east]}").await;
    let changes = bench.store.changes_since(0).await.unwrap().unwrap();
    let shard = Changed::Shard("east".parse().unwrap());
    assert_eq!(changes, (3, vec![shard, Changed::App(name("east"))]));

    bench.reopen("test.example").await;
    let desired = bench.store.desired().await.unwrap();
    let east: ShardName = "east".parse().unwrap();
    assert_eq!(desired.shards[&east].members[0].address.to_string(), "10.0.0.2:80");
    assert_eq!(desired.apps[&name("east")].deployments, []);
}

#[tokio::test]
async fn an_app_names_shards_that_exist_and_they_stay_until_it_lets_go() {
    let bench = Bench::new().await;
    let east: ShardName = "east".parse().unwrap();
    bench.put_shard("east", "\"10.0.0.1:80\"").await;
    let spec = "{shards: [east, west]}";
    let error = bench.write("sites", spec, Precondition::None, false).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no shard `west`; apply it first");
    assert!(
        matches!(error, StoreError::NoSuchShard { ref pointer, .. } if pointer == "/spec/shards/1"),
        "{error:?}"
    );
    assert!(
        bench.store.find::<App>(&name("sites")).await.unwrap().is_none(),
        "half a change was made"
    );

    bench.put("sites", "{shards: [east]}").await;
    let error = bench.store.delete::<Shard>(&east, Precondition::None, DELETE).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the shard `east` is used by the app `sites`; change or delete that first"
    );
    assert!(bench.store.find::<Shard>(&east).await.unwrap().is_some());
    bench.put("sites", "{upstreams: [\"10.0.0.9:80\"]}").await;
    bench.store.delete::<Shard>(&east, Precondition::None, DELETE).await.unwrap();
    let error = bench.store.delete::<Shard>(&east, Precondition::None, DELETE).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no shard `east`");
}

#[tokio::test]
async fn an_app_that_was_no_image_for_a_while_goes_on_with_its_numbers() {
    let bench = Bench::new().await;
    bench.put("shop", "{image: a}").await;
    assert_eq!(number(&bench.put("shop", "{upstreams: [\"10.0.0.1:80\"]}").await), None);
    assert_eq!(number(&bench.put("shop", "{image: a}").await), Some(2));
}

#[tokio::test]
async fn a_path_of_a_host_name_belongs_to_one_app() {
    let bench = Bench::new().await;
    bench.put("site", "{image: a, hostnames: [www.example.com]}").await;
    bench.put("shop", "{image: a, hostnames: [www.example.com/shop]}").await;
    let spec = "{image: a, hostnames: [www.example.com/shop/]}";
    let error = bench.write("other", spec, Precondition::None, false).await.unwrap_err();
    assert!(error.to_string().starts_with("www.example.com/shop is served by the app `shop`"));
}

#[tokio::test]
async fn concurrent_writers_get_revisions_without_a_gap() {
    let bench = Bench::new().await;
    let names: Vec<_> = (0..20).map(|i| format!("app{i}")).collect();
    let writes = names.iter().map(|name| bench.put(name, "{image: a}"));
    let mut revisions: Vec<_> = futures::future::join_all(writes)
        .await
        .into_iter()
        .map(|w| w.record.meta.revision)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_token_is_found_by_its_hash_and_replaced_by_its_name() {
    let bench = Bench::new().await;
    bench.store.add_token("admin", "hash-1").await.unwrap();
    assert_eq!(bench.store.token("hash-1").await.unwrap().unwrap().id, "admin");
    bench.store.add_token("admin", "hash-2").await.unwrap();
    assert!(bench.store.token("hash-1").await.unwrap().is_none());
}

#[tokio::test]
async fn how_far_a_deployment_is_is_there_after_a_restart_and_a_late_decision_changes_nothing() {
    let mut bench = Bench::new().await;
    let app = name("shop");
    bench.put("shop", "{image: a}").await;
    let record = async |bench: &Bench| bench.store.read::<App>(&app).await.unwrap().extra;
    let pending = Stage::of(&record(&bench).await[0]);
    let live = Transition::GoLive { stage: pending, keep: Duration::ZERO };
    let moved = bench.store.change_deployments(&app, &live, None).await.unwrap();
    assert_eq!(moved.map(|moved| moved.revision), Some(2));
    let late = bench.store.change_deployments(&app, &live, None).await.unwrap();
    assert!(late.is_none(), "too late");
    assert_eq!(*bench.store.revisions().borrow(), 2, "and it takes no revision");

    bench.put("shop", "{image: b}").await;
    let stage = Stage::of(&record(&bench).await[0]);
    let live = Transition::GoLive { stage, keep: Duration::from_secs(600) };
    bench.store.change_deployments(&app, &live, None).await.unwrap();
    bench.reopen("test.example").await;
    let found = record(&bench).await;
    let states: Vec<_> = found.iter().map(|d| (d.number, d.state)).collect();
    assert_eq!(states, [(2, DeploymentState::Live), (1, DeploymentState::Superseded)]);
    let left = found[1].kept_until.unwrap().since(Moment::now());
    assert!((590..=600).contains(&left.as_secs()), "{left:?}");

    let nothing = Transition::Cancel { ending: Ending::default() };
    let refused = bench.store.change_deployments(&app, &nothing, Some(PUT)).await.unwrap_err();
    assert_eq!(refused.to_string(), "no deployment is on its way");
    let back = Transition::RollBack { to: Some(7), ending: Ending::default() };
    let refused = bench.store.change_deployments(&app, &back, Some(PUT)).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no deployment 7 any more");
    // What is no image any more has nothing that is live.
    bench.put("shop", "{upstreams: [\"10.0.0.1:80\"]}").await;
    let records = bench.store.deployments(&app).await.unwrap();
    let superseded = |r: &DeploymentRecord| r.deployment.state == DeploymentState::Superseded;
    assert!(records.iter().all(superseded), "{records:?}");
}

#[tokio::test]
async fn of_a_database_without_states_the_newest_deployment_is_the_live_one() {
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
    let mut database = pool.acquire().await.unwrap();
    let rows = "INSERT INTO deployments (app, number, template, created_at)
        VALUES ('shop', 1, '', 10), ('shop', 2, '', 20), ('blog', 1, '', 30)";
    for migration in sqlx::migrate!().iter() {
        if migration.version == 3 {
            sqlx::raw_sql(rows).execute(&mut *database).await.unwrap();
        }
        sqlx::raw_sql(migration.sql.clone()).execute(&mut *database).await.unwrap();
    }
    let states = "SELECT app, number, state, since FROM deployments ORDER BY app, number";
    let states: Vec<(String, i64, String, i64)> =
        sqlx::query_as(states).fetch_all(&mut *database).await.unwrap();
    let of =
        |app: &str, number, state: &str, since| (app.to_owned(), number, state.to_owned(), since);
    let expected =
        [of("blog", 1, "live", 30), of("shop", 1, "superseded", 10), of("shop", 2, "live", 20)];
    assert_eq!(states, expected);
}

/// PostgreSQL comes later; what is written for it now must at least be its language.
#[test]
fn the_migrations_are_sql_for_sqlite_and_for_postgresql() {
    use sqlparser::{
        dialect::{Dialect, PostgreSqlDialect, SQLiteDialect},
        parser::Parser,
    };
    let dialects: [&dyn Dialect; 2] = [&SQLiteDialect {}, &PostgreSqlDialect {}];
    for migration in sqlx::migrate!().iter() {
        for dialect in dialects {
            Parser::parse_sql(dialect, migration.sql.as_str()).unwrap();
        }
    }
}

#[tokio::test]
async fn the_machine_that_weir_runs_on_is_always_a_host() {
    let bench = Bench::new().await;
    let local = HostName::local();
    assert_eq!(bench.store.meant::<Host>(&local).await.unwrap(), Some(Host::local()));
    let error = bench.store.delete::<Host>(&local, Precondition::None, DELETE).await.unwrap_err();
    assert!(matches!(error, StoreError::LocalHost), "{error:?}");

    let text = "kind: Host\nname: b\nspec: {engine: \"unix:///b.sock\", cordoned: true}";
    let (manifest, host) = Host::read(parse_documents(text).unwrap()[0].value.clone()).unwrap();
    bench.store.put(&manifest.spec, &host, Precondition::New, PUT).await.unwrap();
    let hosts = bench.store.desired().await.unwrap().hosts;
    assert_eq!(hosts.keys().map(ToString::to_string).collect::<Vec<_>>(), ["b", "local"]);
    let changes = bench.store.changes_since(0).await.unwrap().unwrap();
    assert_eq!(changes, (1, vec![Changed::Host(host.name.clone())]));

    let spec = "{image: a, placement: {shard: east}}";
    let error = bench.write("shop", spec, Precondition::None, false).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::NoSuchShard { pointer, .. } if pointer == "/spec/placement/shard"),
        "{error:?}"
    );
}
