//! Takes messages to those who are to be told of incidents. Each is tried until it is taken, for a
//! day; one who does not take any delays nobody else.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Client, header::CONTENT_TYPE, redirect::Policy};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use weir_config::{NotifierFormat, NotifierSpec};

use crate::{
    store::{Message, Store, StoreError},
    time::unix_millis,
    vault::{Vault, VaultError},
    webhook::{causes, signed},
};

/// Between two looks for messages.
const POLL: Duration = Duration::from_secs(1);
/// For a message to be taken.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Messages to one notifier between two looks.
const AT_ONCE: i64 = 20;
/// The wait after a failed try: doubles from one to the other.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// A message that nobody takes for so long is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Delivers what is due, without end.
pub(crate) async fn deliver(store: Store, vault: Vault) {
    let courier = Courier::new();
    let mut under_way: BTreeMap<String, AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        under_way.retain(|_, task| !task.is_finished());
        match store.notifiers_with_due().await {
            Ok(names) => {
                for name in names {
                    under_way.entry(name.clone()).or_insert_with(|| {
                        let run = run(store.clone(), vault.clone(), courier.clone(), name);
                        AbortOnDropHandle::new(tokio::spawn(run))
                    });
                }
            }
            Err(error) => tracing::error!(%error, "messages to notifiers cannot be read"),
        }
        sleep(POLL).await;
    }
}

/// Delivers what is due to one notifier, until one try fails.
async fn run(store: Store, vault: Vault, courier: Courier, name: String) {
    if let Err(error) = try_run(&store, &vault, &courier, &name).await {
        tracing::error!(notifier = name, %error, "messages cannot be delivered");
    }
}

async fn try_run(
    store: &Store,
    vault: &Vault,
    courier: &Courier,
    name: &str,
) -> Result<(), StoreError> {
    let spec = match vault.notifier(&name.parse().map_err(StoreError::Corrupt)?).await {
        Ok(Some(spec)) => Ok(spec),
        Ok(None) => return Ok(()),
        Err(VaultError::Store(error)) => return Err(error),
        Err(error) => Err(error.to_string()),
    };
    for message in store.due_messages(name, AT_ONCE).await? {
        let delivered = match &spec {
            Ok(spec) => courier.deliver(spec, &message.id, &message.body).await,
            Err(why) => Err(why.clone()),
        };
        match delivered {
            Ok(()) => store.forget_message(&message.id).await?,
            Err(error) => return postpone(store, &message, &error).await,
        }
    }
    Ok(())
}

async fn postpone(store: &Store, message: &Message, error: &str) -> Result<(), StoreError> {
    let Message { id, notifier, attempts, created_at, .. } = message;
    let due_at = unix_millis() + jittered(*attempts).as_millis() as i64;
    if due_at > created_at + GIVE_UP_AFTER.as_millis() as i64 {
        tracing::error!(notifier, message = id, error, "a message is given up");
        return store.forget_message(id).await;
    }
    tracing::warn!(notifier, message = id, error, "a message is not taken; it is tried again");
    store.postpone_message(message, due_at, error).await
}

/// The wait after so many failed tries before this one, a fifth more or less: messages that failed
/// together are not tried together.
fn jittered(attempts: i64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << attempts.clamp(0, 20));
    doubled.min(LONGEST_RETRY).mul_f64(rand::random_range(0.8..1.2))
}

/// Sends messages.
#[derive(Clone, Debug)]
pub(crate) struct Courier(Option<Client>);

impl Courier {
    pub(crate) fn new() -> Self {
        let client = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build();
        let client = client.inspect_err(|error| tracing::error!(%error, "nobody can be notified"));
        Self(client.ok())
    }

    /// Sends a message once.
    ///
    /// # Errors
    /// Why it was not taken, in words that hold nothing of the URL.
    pub(crate) async fn deliver(
        &self,
        to: &NotifierSpec,
        id: &str,
        body: &str,
    ) -> Result<(), String> {
        let client = self.0.as_ref().ok_or("there is no HTTP client; see the log")?;
        let request = client.post(&to.url).header(CONTENT_TYPE, "application/json");
        let request = match to.format {
            NotifierFormat::Standard => signed(request, to.secret.as_deref(), id, body)?,
            NotifierFormat::Slack => request.body(for_slack(body).to_string()),
        };
        // Of the answer only the status is read.
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status())),
            Err(error) => Err(causes(&error.without_url())),
        }
    }
}

fn for_slack(body: &str) -> Value {
    let message: Value = serde_json::from_str(body).unwrap_or_default();
    let data = &message["data"];
    // Slack's own markup begins with these (api.slack.com/reference/surfaces/formatting).
    let text = |field: &str| {
        let text = data[field].as_str().unwrap_or_default();
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    };
    let what = match message["type"].as_str() {
        Some("incident.resolved") => "Resolved".to_owned(),
        Some("notifier.test") => "Test".to_owned(),
        _ => text("severity"),
    };
    let (title, detail, subject, id) = (text("title"), text("detail"), text("subject"), text("id"));
    json!({ "text": format!("*{what}*: {title}\n{detail}\n_{subject}, {id}_") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_come_ever_later_and_never_later_than_an_hour() {
        for (attempts, expected) in
            [(0, 2.0), (1, 4.0), (5, 64.0), (11, 3600.0), (i64::MAX, 3600.0)]
        {
            let wait = jittered(attempts).as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&wait), "{attempts}: {wait}");
        }
    }

    #[test]
    fn slack_gets_text_in_which_nothing_is_markup() {
        let body = json!({"type": "incident.opened", "data": {"severity": "critical",
            "title": "a <b> & c", "detail": "d", "subject": "App/shop", "id": "inc-1"}});
        let sent = for_slack(&body.to_string());
        assert_eq!(sent["text"], "*critical*: a &lt;b&gt; &amp; c\nd\n_App/shop, inc-1_");
    }
}
