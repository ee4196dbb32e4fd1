//! What policies have done when a failover begins, beside the shift itself: somebody is told, an app
//! gets more instances or its former deployment. Each is in the audit log, by the policy.

use std::time::Duration;

use tokio::time::sleep;
use weir_config::{App, AppManifest, AppName, Hostname, IncidentActionSpec, NotifierName};

use crate::{
    store::{
        Cause, DueAction, Kind, OperationFilter, OperationState, Page, Precondition, Record, Store,
        StoreError, Target, Verb,
    },
    transition::{ASKED_FOR, Transition, ending},
};

/// Between two looks for what is to be done, and after the store has failed.
const POLL: Duration = Duration::from_secs(1);

/// Does what is asked for, without end.
pub(crate) async fn act(store: Store, base_domain: Hostname) {
    loop {
        if let Err(error) = act_once(&store, &base_domain).await {
            tracing::error!(%error, "what a failover has done cannot be done yet");
        }
        sleep(POLL).await;
    }
}

pub(super) async fn act_once(store: &Store, base_domain: &Hostname) -> Result<(), StoreError> {
    for due in store.due_failover_actions().await? {
        let actor = format!("failover/{}", due.policy);
        let done = perform(store, base_domain, &due, &actor).await;
        let said = match done {
            Ok(said) => said,
            // These may pass.
            Err(
                error @ (StoreError::Database(_)
                | StoreError::Full
                | StoreError::Closed
                | StoreError::Conflict { .. }),
            ) => return Err(error),
            Err(error) => note_failure(store, &due, &actor, &error).await?,
        };
        tracing::info!(policy = %due.policy, "{said}");
        let key = (crate::incidents::Rule::Failover, format!("FailoverPolicy/{}", due.policy));
        store.tell_incident((key.0, &key.1), "action", &said).await?;
        store.forget_failover_action(&due).await?;
    }
    Ok(())
}

/// Does one thing; says what.
async fn perform(
    store: &Store,
    base_domain: &Hostname,
    due: &DueAction,
    actor: &str,
) -> Result<String, StoreError> {
    match &due.action {
        IncidentActionSpec::Page(names) => page(store, names, due, actor).await,
        IncidentActionSpec::Scale { app, instances } => {
            scale(store, base_domain, &name(app)?, *instances, actor).await
        }
        IncidentActionSpec::RollBack(app) => roll_back(store, &name(app)?, due, actor).await,
    }
}

/// Names were checked when the policy was written.
fn name<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(StoreError::Corrupt)
}

async fn page(
    store: &Store,
    names: &[String],
    due: &DueAction,
    actor: &str,
) -> Result<String, StoreError> {
    let names = names.iter().map(|text| name(text)).collect::<Result<Vec<NotifierName>, _>>()?;
    let Some((incident, _)) = store.incident(&due.incident).await? else {
        return Ok("nobody is told: the incident is gone".to_owned());
    };
    let missing = store.page(&names, &incident).await?;
    let list = |names: &[NotifierName]| {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let said = match missing.is_empty() {
        true => format!("told: {}", list(&names)),
        false => {
            let told: Vec<_> = names.iter().filter(|n| !missing.contains(n)).cloned().collect();
            format!("told: {}; there is no notifier {}", list(&told), list(&missing))
        }
    };
    let cause = Cause { actor, verb: Verb::Page, key: None };
    store.act_done(cause, of_policy(due), said.clone()).await?;
    Ok(said)
}

/// At least so many instances; what has more keeps them.
async fn scale(
    store: &Store,
    base_domain: &Hostname,
    app: &AppName,
    instances: u16,
    actor: &str,
) -> Result<String, StoreError> {
    let Record { mut spec, meta, .. } = store.read::<App>(app).await?;
    if spec.instances >= instances {
        return Ok(format!("{app} has {} instances already", spec.instances));
    }
    spec.instances = instances;
    let (kind, name) = (Kind::App.as_str().to_owned(), app.to_string());
    let manifest = AppManifest { kind, name, spec };
    let meant = App::from_manifest(&manifest, base_domain).map_err(StoreError::Records)?;
    let cause = Cause { actor, verb: Verb::Put, key: None };
    let unchanged_since = Precondition::Revision(meta.revision);
    store.put(&manifest.spec, &meant, unchanged_since, cause).await?;
    Ok(format!("{app} gets {instances} instances"))
}

async fn roll_back(
    store: &Store,
    app: &AppName,
    due: &DueAction,
    actor: &str,
) -> Result<String, StoreError> {
    let said = format!("{app} goes back to the deployment that was live before");
    // Once more would undo it. What was done right before a crash is in the audit log.
    let (kind, name) = (Some(Kind::App.as_str().to_owned()), Some(app.to_string()));
    let filter = OperationFilter { kind, name, actor: Some(actor.to_owned()) };
    let last = Page { limit: Some(1), ..Page::default() };
    let done = store.operations(&filter, &last).await?.into_iter();
    if done.filter(|one| one.verb == Verb::RollBack.as_str()).any(|one| one.at >= due.at) {
        return Ok(said);
    }
    let message = format!("asked for by {actor}");
    let ending = weir_config::Ending { message, ..ending(ASKED_FOR) };
    let cause = Cause { actor, verb: Verb::RollBack, key: None };
    let transition = Transition::RollBack { to: None, ending };
    store.change_deployments(app, &transition, Some(cause)).await?;
    Ok(said)
}

/// Notes that something could not be done; says why.
async fn note_failure(
    store: &Store,
    due: &DueAction,
    actor: &str,
    error: &StoreError,
) -> Result<String, StoreError> {
    let verb = match due.action {
        IncidentActionSpec::Page(_) => Verb::Page,
        IncidentActionSpec::Scale { .. } => Verb::Put,
        IncidentActionSpec::RollBack(_) => Verb::RollBack,
    };
    let said = format!("not done: {error}");
    let cause = Cause { actor, verb, key: None };
    store.act_ended(cause, of_policy(due), OperationState::Failed, said.clone()).await?;
    Ok(said)
}

fn of_policy(due: &DueAction) -> Target {
    let (kind, name) = (Kind::FailoverPolicy.as_str().to_owned(), due.policy.to_string());
    Target { kind, name, generation: 0, deployment: None }
}

#[cfg(test)]
mod tests {
    use weir_config::{FailoverPolicy, Severity, parse_documents};

    use super::*;
    use crate::{
        incidents::{Rule, Trouble},
        seal::Keyring,
        store::Notifier,
        transition::Stage,
    };

    const PUT: Cause<'_> = Cause { actor: "test", verb: Verb::Put, key: None };

    struct Bench {
        store: Store,
        base: Hostname,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        async fn new() -> Self {
            let (dir, base) = (tempfile::tempdir().unwrap(), "test.example".parse().unwrap());
            let store = Store::open(&dir.path().join("weir.db"), &base).await.unwrap();
            Self { store, base, _dir: dir }
        }

        async fn put_policy(&self, mode: &str) {
            let text = format!(
                "{{kind: FailoverPolicy, name: shop, spec: {{hostnames: [shop.example],
                  mode: {mode}, targets: [{{name: a, cdn: a.example}}], on_incident: [
                    {{page: [ops, nobody]}}, {{scale: {{app: shop, instances: 3}}}},
                    {{roll_back: gone}}]}}}}"
            );
            let value = parse_documents(&text).unwrap()[0].value.clone();
            let (manifest, policy) = FailoverPolicy::read(value).unwrap();
            self.store.put(&manifest.spec, &policy, Precondition::None, PUT).await.unwrap();
        }

        async fn put_others(&self) {
            let text = "{kind: App, name: shop, spec: {image: a}}";
            let manifest: AppManifest = parse_documents(text).unwrap()[0].decode().unwrap();
            let app = App::from_manifest(&manifest, &self.base).unwrap();
            self.store.put(&manifest.spec, &app, Precondition::None, PUT).await.unwrap();
            let name = "ops".parse().unwrap();
            // Of incidents it is told nothing by itself.
            let spec = "{\"url\": \"http://127.0.0.1:1/\", \"events\": [],
                \"min_severity\": \"critical\"}";
            let spec = serde_json::from_str(spec).unwrap();
            let notifier = Notifier::new(&name, &spec, &Keyring::new()).unwrap();
            self.store.put(&spec.shown(), &notifier, Precondition::None, PUT).await.unwrap();
        }

        async fn open_incident(&self) {
            let subject = "FailoverPolicy/shop".to_owned();
            let (rule, severity) = (Rule::Failover, Severity::Warning);
            let (title, detail) = ("a is left".to_owned(), "because".to_owned());
            let trouble = Trouble { rule, subject, severity, title, detail };
            self.store.open_incident(&trouble).await.unwrap();
        }

        async fn act(&self) {
            act_once(&self.store, &self.base).await.unwrap();
        }

        /// The verb and the message of what the policy has done, the oldest first.
        async fn done(&self) -> Vec<(String, Option<String>)> {
            let actor = Some("failover/shop".to_owned());
            let filter = OperationFilter { actor, ..OperationFilter::default() };
            let mut found = self.store.operations(&filter, &Page::default()).await.unwrap();
            found.reverse();
            let line = |operation: crate::store::Operation| {
                (operation.verb, operation.outcome.map(|outcome| outcome.message))
            };
            found.into_iter().map(line).collect()
        }

        async fn instances(&self) -> u16 {
            self.store.read::<App>(&"shop".parse().unwrap()).await.unwrap().spec.instances
        }
    }

    #[tokio::test]
    async fn what_a_failover_asks_for_is_done_once_and_told_with_who_did_it() {
        let bench = Bench::new().await;
        bench.put_policy("auto").await;
        bench.put_others().await;
        bench.open_incident().await;
        // As after a crash in between: it is still asked for, and done once.
        for _ in 0..2 {
            bench.act().await;
        }
        assert_eq!(bench.instances().await, 3);
        let told = bench.store.due_messages("ops", 10).await.unwrap();
        assert_eq!(told.len(), 1);
        assert!(told[0].body.contains("incident.page"), "{}", told[0].body);
        let (verbs, messages): (Vec<_>, Vec<_>) = bench.done().await.into_iter().unzip();
        assert_eq!(verbs, ["page", "put", "rollback"]);
        let paged = "told: ops; there is no notifier nobody";
        assert_eq!(messages[0].as_deref(), Some(paged));
        assert_eq!(messages[2].as_deref(), Some("not done: there is no app `gone`"));
        // The incident goes on, and is told again: no new one is opened.
        bench.open_incident().await;
        bench.act().await;
        assert_eq!(bench.done().await.len(), 3);
        let key = (Rule::Failover, "FailoverPolicy/shop");
        bench.store.resolve_gone(key).await.unwrap();
        bench.open_incident().await;
        bench.act().await;
        assert_eq!(bench.store.due_messages("ops", 10).await.unwrap().len(), 2, "a new one is");
    }

    #[tokio::test]
    async fn a_rollback_that_a_crash_came_right_behind_is_not_undone_by_another() {
        let bench = Bench::new().await;
        let app: AppName = "shop".parse().unwrap();
        for image in ["a", "b"] {
            let text = format!("{{kind: App, name: shop, spec: {{image: {image}}}}}");
            let manifest: AppManifest = parse_documents(&text).unwrap()[0].decode().unwrap();
            let meant = App::from_manifest(&manifest, &bench.base).unwrap();
            bench.store.put(&manifest.spec, &meant, Precondition::None, PUT).await.unwrap();
            let stage = Stage::of(&bench.store.read::<App>(&app).await.unwrap().extra[0]);
            let live = Transition::GoLive { stage, keep: Duration::from_secs(600) };
            bench.store.change_deployments(&app, &live, None).await.unwrap();
        }
        let due = DueAction {
            policy: "shop".parse().unwrap(),
            action: IncidentActionSpec::RollBack("shop".to_owned()),
            incident: "inc-1".to_owned(),
            at: crate::time::unix_millis(),
            place: 0,
        };
        let mut said = Vec::new();
        for _ in 0..2 {
            said.push(perform(&bench.store, &bench.base, &due, "failover/shop").await.unwrap());
        }
        assert_eq!(said[0], said[1]);
        assert_eq!(bench.done().await.len(), 1);
    }

    #[tokio::test]
    async fn who_only_advises_only_tells() {
        let bench = Bench::new().await;
        bench.put_policy("advise").await;
        bench.put_others().await;
        bench.open_incident().await;
        bench.act().await;
        assert_eq!(bench.instances().await, 1);
        assert_eq!(bench.store.due_messages("ops", 10).await.unwrap().len(), 1);
        assert_eq!(bench.done().await.len(), 1);
    }
}
