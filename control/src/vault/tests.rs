//! The vault on a real database and a real key file.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use sqlx::{Connection, Row, SqliteConnection};
use weir_config::{
    AppManifest, HostName, Hostname, InstanceId, IssuerSpec, NotifierSpec, ProviderName,
    ProviderSpec, parse_documents,
};
use zeroize::Zeroizing;

use super::*;
use crate::store::{Cause, Precondition, SecretRecord, Verb};

const ROTATE: Cause<'_> = Cause { actor: "test", verb: Verb::RotateKey, key: None };

struct Bench {
    vault: Vault,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vault = Self::open(&dir).await;
        Self { vault, dir }
    }

    async fn open(dir: &tempfile::TempDir) -> Vault {
        let base: Hostname = "test.example".parse().unwrap();
        let store = Store::open(&dir.path().join("weir.db"), &base).await.unwrap();
        Vault::open(dir.path().join("secrets.key"), store).await.unwrap()
    }

    async fn reopen(&mut self) {
        self.vault = Self::open(&self.dir).await;
    }

    fn key_file(&self) -> PathBuf {
        self.dir.path().join("secrets.key")
    }

    fn key_lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.key_file()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Changes the database behind the vault's back.
    async fn sql(&self, statement: &'static str) -> Vec<sqlx::sqlite::SqliteRow> {
        let url = format!("sqlite:{}", self.dir.path().join("weir.db").display());
        let mut database = SqliteConnection::connect(&url).await.unwrap();
        sqlx::query(statement).fetch_all(&mut database).await.unwrap()
    }

    async fn put_app(&self, name: &str, spec: &str) -> Result<u64, StoreError> {
        let text = format!("kind: App\nname: {name}\nspec: {spec}");
        let manifest: AppManifest = parse_documents(&text).unwrap()[0].decode().unwrap();
        let app = App::from_manifest(&manifest, &"test.example".parse().unwrap()).unwrap();
        let cause = Cause { actor: "test", verb: Verb::Put, key: None };
        let store = &self.vault.store;
        let written = store.put(&manifest.spec, &app, Precondition::None, cause).await?;
        Ok(written.record.extra.first().map_or(0, |deployment| deployment.number))
    }

    async fn write(
        &self,
        app: &str,
        changes: &[(&str, Option<&str>)],
    ) -> Result<WrittenSecrets, StoreError> {
        let secret = |text: &str| Secret::new(Zeroizing::new(text.to_owned())).unwrap();
        let changes = changes.iter().map(|(n, value)| (name(n), value.map(secret))).collect();
        self.vault.set(&app.parse().unwrap(), &changes, "test").await
    }

    /// Sets one, and returns the number of the app's deployment.
    async fn set(&self, app: &str, name: &str, value: &str) -> u64 {
        let written = self.write(app, &[(name, Some(value))]).await.unwrap();
        written.app.map_or(0, |app| app.extra[0].number)
    }

    async fn list(&self, app: &str) -> Vec<SecretRecord> {
        self.vault.store.secrets(&app.parse().unwrap()).await.unwrap()
    }

    /// What a container of the newest deployment is made with.
    async fn values(&self, app: &str) -> Result<Vec<(String, String)>, ActionError> {
        let app: AppName = app.parse().unwrap();
        let deployed = self.vault.store.read::<App>(&app).await.unwrap().extra.swap_remove(0);
        let (deployment, template) = (deployed.number, deployed.template);
        let instance = InstanceId { app, deployment, ordinal: 0, host: HostName::local() };
        let secrets = self.vault.secrets_of(&ContainerSpec { instance, template }).await?;
        let pair = |(name, value): (SecretName, Secret)| (name.to_string(), value.expose().into());
        Ok(secrets.into_iter().map(pair).collect())
    }

    async fn value(&self, app: &str) -> Result<String, String> {
        let values = self.values(app).await.map_err(|error| error.to_string())?;
        Ok(values.into_iter().map(|(_, value)| value).collect())
    }
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

#[tokio::test]
async fn another_value_is_another_deployment_and_the_same_one_is_no_change() {
    let bench = Bench::new().await;
    assert_eq!(bench.put_app("shop", "{image: a}").await.unwrap(), 1);
    assert_eq!(bench.set("shop", "KEY", "one").await, 2);
    let before = bench.list("shop").await;
    assert_eq!(bench.set("shop", "KEY", "one").await, 2);
    assert_eq!(bench.list("shop").await, before);
    assert_eq!(bench.set("shop", "KEY", "two").await, 3);
    assert!(bench.list("shop").await[0].version > before[0].version);
    let several = [("KEY", None), ("A", Some("a")), ("B", Some("b")), ("NEVER_THERE", None)];
    let written = bench.write("shop", &several).await.unwrap();
    assert_eq!(written.app.unwrap().extra[0].number, 4, "one for all of them");
    let values = bench.values("shop").await.unwrap();
    assert_eq!(values, [("A".into(), "a".into()), ("B".into(), "b".into())]);
    // What does not change what containers are made from makes no deployment either.
    assert_eq!(bench.put_app("shop", "{image: a, instances: 2}").await.unwrap(), 4);
    assert_eq!(bench.put_app("shop", "{image: b, instances: 2}").await.unwrap(), 5);
    assert_eq!(bench.values("shop").await.unwrap(), values);
}

#[tokio::test]
async fn secrets_may_come_before_their_app_and_go_with_it() {
    let bench = Bench::new().await;
    assert_eq!(bench.set("shop", "KEY", "draft").await, 0);
    assert_eq!(bench.set("shop", "KEY", "final").await, 0);
    let rows = bench.sql("SELECT name FROM secrets").await;
    assert_eq!(rows.len(), 1, "a value that no deployment names is not kept");
    assert_eq!(bench.put_app("shop", "{image: a}").await.unwrap(), 1);
    assert_eq!(bench.value("shop").await.unwrap(), "final");
    let (store, shop) = (&bench.vault.store, "shop".parse().unwrap());
    store
        .delete::<App>(
            &shop,
            Precondition::None,
            Cause { actor: "test", verb: Verb::Delete, key: None },
        )
        .await
        .unwrap();
    assert_eq!(bench.sql("SELECT name FROM secrets").await.len(), 0);
}

#[tokio::test]
async fn a_deployment_that_is_kept_keeps_its_values() {
    let bench = Bench::new().await;
    bench.put_app("shop", "{image: a}").await.unwrap();
    bench.set("shop", "KEY", "former").await;
    let store = &bench.vault.store;
    let record = store.read::<App>(&"shop".parse().unwrap()).await.unwrap();
    let template = record.extra[0].template.clone();
    bench.set("shop", "KEY", "latter").await;
    bench.write("shop", &[("KEY", None)]).await.unwrap();
    assert_eq!(bench.value("shop").await.unwrap(), "");

    let (app, host) = ("shop".parse().unwrap(), HostName::local());
    let instance = InstanceId { app, deployment: 2, ordinal: 0, host };
    let former = ContainerSpec { instance, template };
    let secrets = bench.vault.secrets_of(&former).await.unwrap();
    assert_eq!(secrets[&name("KEY")].expose(), "former");
    bench.sql("DELETE FROM deployments WHERE number = 2").await;
    bench.set("shop", "OTHER", "x").await;
    let error = bench.vault.secrets_of(&former).await.unwrap_err();
    let expected = "the secret KEY cannot be had: it is no longer kept; set it again";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn what_cannot_be_a_secret_of_an_app_changes_nothing() {
    let bench = Bench::new().await;
    bench.put_app("shop", "{image: a, env: {PORT: '1', MODE: fast}}").await.unwrap();
    let error = bench.write("shop", &[("OK", Some("x")), ("MODE", Some("x"))]).await.unwrap_err();
    assert!(matches!(&error, StoreError::SecretIsVariable(n) if *n == name("MODE")), "{error}");
    bench.set("shop", "KEY", "x").await;
    let error = bench.put_app("shop", "{image: a, env: {KEY: x}}").await.unwrap_err();
    assert!(matches!(&error, StoreError::SecretIsVariable(n) if *n == name("KEY")), "{error}");
    let names: Vec<_> = (0..100).map(|i| format!("KEY_{i}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, Some("x"))).collect();
    let error = bench.write("shop", &many).await.unwrap_err();
    assert_eq!(error.to_string(), "an app has at most 100 secrets");
    assert_eq!(bench.list("shop").await.len(), 1);

    bench.put_app("proxied", "{upstreams: ['10.0.0.1:80']}").await.unwrap();
    let error = bench.write("proxied", &[("KEY", Some("x"))]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoImage(_)), "{error}");
}

#[tokio::test]
async fn rows_that_are_swapped_or_changed_do_not_open() {
    let bench = Bench::new().await;
    for app in ["shop", "blog"] {
        bench.put_app(app, "{image: a}").await.unwrap();
        bench.set(app, "KEY", &format!("of {app}")).await;
    }
    assert_eq!(bench.value("blog").await.unwrap(), "of blog");
    bench.sql("UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE app = 'shop')").await;
    let broken = "the secret KEY cannot be had: it does not open: it was changed, or belongs \
                  somewhere else; set it again";
    assert_eq!(bench.value("blog").await.unwrap_err(), broken);
    assert_eq!(bench.value("shop").await.unwrap(), "of shop");
    bench.sql("UPDATE secrets SET sealed = substr(sealed, 1, 20)").await;
    assert_eq!(bench.value("shop").await.unwrap_err(), broken);
    bench.set("shop", "KEY", "of shop").await;
    assert_eq!(bench.value("shop").await.unwrap(), "of shop", "setting it again mends it");
}

#[tokio::test]
async fn a_rotation_seals_everything_anew_and_forgets_the_former_key() {
    let mut bench = Bench::new().await;
    bench.put_app("shop", "{image: a}").await.unwrap();
    bench.set("shop", "KEY", "one").await;
    bench.set("shop", "KEY", "two").await;
    let former = bench.key_lines();
    let mode = fs::metadata(bench.key_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let rotated = bench.vault.rotate(ROTATE).await.unwrap();
    assert_eq!((rotated.resealed, rotated.unreadable.len()), (2, 0));
    let latter = bench.key_lines();
    assert_eq!(latter.len(), 1);
    assert_ne!(latter, former);
    let mode = fs::metadata(bench.key_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for row in bench.sql("SELECT key_id FROM secrets").await {
        assert_eq!(row.get::<String, _>("key_id"), rotated.key);
    }
    assert_eq!(bench.value("shop").await.unwrap(), "two");
    assert_eq!(bench.set("shop", "KEY", "two").await, 3, "it is the same value still");
    bench.reopen().await;
    assert_eq!(bench.value("shop").await.unwrap(), "two");
}

#[tokio::test]
async fn a_rotation_that_was_interrupted_anywhere_is_ended_by_the_next_start() {
    let mut bench = Bench::new().await;
    bench.put_app("shop", "{image: a}").await.unwrap();
    bench.set("shop", "KEY", "one").await;
    for has_sealed in [false, true] {
        let renewed = bench.vault.keys.read().unwrap().renewed();
        // The key file is written first.
        let keys = bench.vault.keys.write(renewed).unwrap();
        if has_sealed {
            bench.vault.store.reseal(&keys, None).await.unwrap();
        }
        assert!(bench.key_lines().len() > 1);
        bench.reopen().await;
        assert_eq!(bench.value("shop").await.unwrap(), "one");
        assert_eq!(bench.key_lines().len(), 1);
        assert!(bench.key_lines()[0].starts_with(keys.newest()));
    }
}

#[tokio::test]
async fn a_lost_key_is_told_and_stops_nothing_else() {
    let mut bench = Bench::new().await;
    bench.put_app("shop", "{image: a}").await.unwrap();
    bench.set("shop", "KEY", "one").await;
    let key = fs::read(bench.key_file()).unwrap();
    let away = bench.dir.path().join("away");
    for lost in [&b""[..], &key[..key.len() / 2], b"nonsense\n"] {
        fs::write(bench.key_file(), lost).unwrap();
        bench.reopen().await;
        let error = bench.value("shop").await.unwrap_err();
        assert!(error.contains("secrets.key") && error.contains("put back"), "{error}");
        assert!(bench.vault.rotate(ROTATE).await.is_err(), "a damaged file is not overwritten");
        assert_eq!(fs::read(bench.key_file()).unwrap(), lost);
    }
    fs::remove_file(bench.key_file()).unwrap();
    fs::write(&away, &key).unwrap();
    bench.reopen().await;
    assert!(!bench.key_file().exists(), "a new key would look as if nothing was wrong");
    let error = bench.write("shop", &[("OTHER", Some("x"))]).await.unwrap_err();
    assert!(error.to_string().contains("is not there; put it back"), "{error}");
    assert_eq!(bench.put_app("blog", "{image: a}").await.unwrap(), 1);
    assert!(matches!(bench.vault.mask(&"shop".parse().unwrap()).await, Mask::Everything));

    fs::rename(&away, bench.key_file()).unwrap();
    assert_eq!(bench.value("shop").await.unwrap(), "one", "put back, with no restart");
    fs::rename(bench.key_file(), &away).unwrap();
    bench.reopen().await;
    let rotated = bench.vault.rotate(ROTATE).await.unwrap();
    assert_eq!(rotated.resealed, 0);
    assert_eq!(rotated.unreadable, BTreeSet::from(["shop/KEY".to_owned()]));
    let error = bench.value("shop").await.unwrap_err();
    assert!(error.contains("put its line back in secrets.key"), "{error}");
    assert_eq!(bench.set("shop", "KEY", "two").await, 3);
    assert_eq!(bench.value("shop").await.unwrap(), "two");
    // The lost key is found again: what it sealed opens beside what the new one did.
    let mut lines = bench.key_lines();
    lines.extend(fs::read_to_string(&away).unwrap().lines().map(str::to_owned));
    fs::write(bench.key_file(), lines.join("\n")).unwrap();
    bench.reopen().await;
    assert_eq!(bench.value("shop").await.unwrap(), "two");
    assert_eq!(bench.key_lines().len(), 1, "and is sealed anew with it");
}

#[tokio::test]
async fn a_mask_knows_every_value_that_an_instance_may_have() {
    let bench = Bench::new().await;
    bench.put_app("shop", "{image: a}").await.unwrap();
    let shop: AppName = "shop".parse().unwrap();
    assert_eq!(bench.vault.mask(&shop).await.apply("all is shown".into()), "all is shown");
    bench.set("shop", "KEY", "former value").await;
    bench.set("shop", "KEY", "latter value").await;
    let mask = bench.vault.mask(&shop).await;
    assert_eq!(mask.apply("a former value, a latter value".into()), "a ***, a ***");
    let nobody = bench.vault.mask(&"nobody".parse().unwrap()).await;
    assert_eq!(nobody.apply("last words".into()), "***");
}

#[tokio::test]
async fn what_is_secret_of_a_notifier_is_sealed_kept_and_rotated() {
    let mut bench = Bench::new().await;
    let ops = "ops".parse().unwrap();
    let spec = |fields: &str| -> NotifierSpec {
        let text = format!("{{\"url\": \"https://example.com/hook?key=hunter2\"{fields}}}");
        serde_json::from_str(&text).unwrap()
    };
    let put = async |bench: &Bench, spec: NotifierSpec| {
        let cause = Cause { actor: "test", verb: Verb::Put, key: None };
        bench.vault.put_notifier(&ops, spec, Precondition::None, cause).await
    };
    let unsigned = put(&bench, spec("")).await.unwrap_err();
    assert!(matches!(unsigned, VaultError::Store(StoreError::NoSigningSecret)), "{unsigned}");
    let signed = spec(", \"secret\": \"whsec_hunter2\"");
    assert_eq!(
        bench.vault.hidden_changes_of_notifier(&ops, signed.clone()).await.unwrap(),
        ["url", "secret"]
    );
    assert!(put(&bench, signed.clone()).await.unwrap().created);

    let again = put(&bench, spec("")).await.unwrap();
    assert!(again.operation.is_none(), "without a secret it keeps the one it has");
    assert_eq!(bench.vault.notifier(&ops).await.unwrap(), Some(signed.clone()));
    let other = spec(", \"secret\": \"whsec_hunter3\"");
    assert_eq!(
        bench.vault.hidden_changes_of_notifier(&ops, other.clone()).await.unwrap(),
        ["secret"]
    );
    assert!(put(&bench, other.clone()).await.unwrap().operation.is_some());

    let rotated = bench.vault.rotate(ROTATE).await.unwrap();
    assert_eq!((rotated.resealed, bench.key_lines().len()), (1, 1));
    bench.reopen().await;
    assert_eq!(bench.vault.notifier(&ops).await.unwrap(), Some(other));
    let database = fs::read(bench.dir.path().join("weir.db")).unwrap();
    let log = fs::read(bench.dir.path().join("weir.db-wal")).unwrap_or_default();
    for kept in [database, log] {
        assert!(!kept.windows(7).any(|bytes| bytes == b"hunter2"), "it is on disk");
    }
}

#[tokio::test]
async fn the_key_of_an_issuer_s_account_is_sealed_kept_and_rotated() {
    let mut bench = Bench::new().await;
    let le = "le".parse().unwrap();
    let spec = |eab: &str| -> IssuerSpec {
        let text =
            format!("{{\"directory\": \"https://ca.test/dir\", \"terms_agreed\": true{eab}}}");
        serde_json::from_str(&text).unwrap()
    };
    let with_key = |key: &str| spec(&format!(", \"eab\": {{\"key_id\": \"1\"{key}}}"));
    let put = async |bench: &Bench, spec: &IssuerSpec| {
        let cause = Cause { actor: "test", verb: Verb::Put, key: None };
        bench.vault.put_issuer(&le, spec, Precondition::None, cause).await
    };
    let hidden = async |bench: &Bench, spec: &IssuerSpec| {
        bench.vault.hidden_changes_of_issuer(&le, spec).await.unwrap()
    };
    let keyless = put(&bench, &with_key("")).await.unwrap_err();
    assert!(matches!(keyless, VaultError::Store(StoreError::NoEabKey)), "{keyless}");
    let written = with_key(", \"key\": \"hunter2\"");
    assert_eq!(hidden(&bench, &written).await, ["eab.key"]);
    let made = put(&bench, &written).await.unwrap();
    assert!(made.created && made.record.spec == written.shown(), "{made:?}");
    for same in [&written, &with_key("")] {
        assert!(hidden(&bench, same).await.is_empty());
        assert!(put(&bench, same).await.unwrap().operation.is_none(), "{same:?}");
    }

    let rotated = bench.vault.rotate(ROTATE).await.unwrap();
    assert_eq!(rotated.resealed, 1);
    bench.reopen().await;
    assert!(put(&bench, &written).await.unwrap().operation.is_none(), "it is the same key still");
    let database = fs::read(bench.dir.path().join("weir.db")).unwrap();
    let log = fs::read(bench.dir.path().join("weir.db-wal")).unwrap_or_default();
    for kept in [database, log] {
        assert!(!kept.windows(7).any(|bytes| bytes == b"hunter2"), "it is on disk");
    }
    assert!(put(&bench, &spec("")).await.unwrap().record.extra.is_none());
    assert!(put(&bench, &with_key("")).await.is_err(), "it is forgotten");
}

#[tokio::test]
async fn a_value_goes_with_the_last_deployment_that_names_it() {
    let bench = Bench::new().await;
    bench.put_app("shop", "{image: a}").await.unwrap();
    bench.set("shop", "KEY", "hunter2").await;
    bench.set("shop", "KEY", "hunter3").await;
    let kept = async |bench: &Bench| bench.sql("SELECT version FROM secrets").await.len();
    assert_eq!(kept(&bench).await, 2, "a rollback may need the former one");
    for n in 0..60 {
        bench.put_app("shop", &format!("{{image: a{n}}}")).await.unwrap();
    }
    assert_eq!(kept(&bench).await, 1, "no deployment is left that names the former one");
}

#[tokio::test]
async fn what_is_secret_of_a_provider_is_sealed_kept_and_rotated() {
    let mut bench = Bench::new().await;
    let there: ProviderName = "there".parse().unwrap();
    let spec = |text: &str| -> ProviderSpec { serde_json::from_str(text).unwrap() };
    let put = async |bench: &Bench, spec: ProviderSpec| {
        let cause = Cause { actor: "test", verb: Verb::Put, key: None };
        bench.vault.put_provider(&there, spec, Precondition::None, cause).await
    };
    let without = || spec("{\"cloudflare\": {}}");
    let error = put(&bench, without()).await.unwrap_err();
    let VaultError::Store(StoreError::NoProviderSecret { pointer }) = error else {
        panic!("{error}")
    };
    assert_eq!(pointer, "/spec/cloudflare/token");
    let first = spec("{\"cloudflare\": {\"token\": \"hunter2\"}}");
    assert!(put(&bench, first.clone()).await.unwrap().created);
    let again = put(&bench, without()).await.unwrap();
    assert!(again.operation.is_none(), "without a token it keeps the one it has");
    assert_eq!(bench.vault.provider(&there).await.unwrap(), Some(first.clone()));

    let other = spec("{\"cloudflare\": {\"token\": \"hunter2-too\"}}");
    for (spec, changes) in [(first, false), (without(), false), (other.clone(), true)] {
        assert_eq!(bench.vault.changes_provider_secret(&there, spec).await.unwrap(), changes);
    }
    assert!(put(&bench, other.clone()).await.unwrap().operation.is_some());
    let url = "https://example.com/hook?key=hunter2";
    let hook = spec(&format!("{{\"webhook\": {{\"url\": \"{url}\"}}}}"));
    let error = put(&bench, hook).await.unwrap_err();
    assert!(matches!(error, VaultError::Store(StoreError::NoProviderSecret { .. })), "{error}");

    let rotated = bench.vault.rotate(ROTATE).await.unwrap();
    assert_eq!((rotated.resealed, bench.key_lines().len()), (1, 1));
    bench.reopen().await;
    assert_eq!(bench.vault.provider(&there).await.unwrap(), Some(other));
    let database = fs::read(bench.dir.path().join("weir.db")).unwrap();
    let log = fs::read(bench.dir.path().join("weir.db-wal")).unwrap_or_default();
    for kept in [database, log] {
        assert!(!kept.windows(7).any(|bytes| bytes == b"hunter2"), "it is on disk");
    }
}
