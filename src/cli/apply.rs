//! `weir apply`: makes apps what files say.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use futures::future::join_all;
use reqwest::{Method, header};
use weir_config::AppManifest;
use weir_control::api::wire::AppResource;

use super::{
    change::{Change, ChangeKind},
    client::{Client, Connection, etag},
    client_error::ClientError,
    manifests::Manifests,
    outcome::{Outcome, say, say_aside},
    progress::{WaitArgs, follow, is_well, report_accepted},
};

/// Create and change apps as files say.
///
/// All files are checked first, and nothing is sent while there is a problem. Then it prints what
/// it will change, changes it, and waits for the result: `+` is a new app, `~` a changed one, `=`
/// one that is already as written. Apps that no file names are left alone. An app that somebody
/// else changes between the plan and the change is refused, not overwritten.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir apply -f shop.yaml
  weir apply -f shop.yaml -f blog.yaml --dry-run
  sed s/VERSION/1.2/ shop.yaml | weir apply -f -

Exit codes: 0 done, 1 problems in the files, 2 the server refuses or is not there,
3 an app does not run as written, 4 the time is up and it goes on.")]
pub(crate) struct Apply {
    /// A file of one or several YAML documents; `-` is standard input; may be repeated
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Apply {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let manifests = Manifests::read(&self.files);
        for problem in &manifests.problems {
            say_aside(problem)?;
        }
        if manifests.problems.is_empty() && manifests.apps.is_empty() {
            say_aside("error: there is no app in these files")?;
        }
        if !manifests.problems.is_empty() || manifests.apps.is_empty() {
            return Ok(Outcome::Invalid);
        }
        let client = self.connection.open()?;
        let mut changes = Vec::new();
        // As written already, but not running so: an apply that is repeated must not hide that.
        let mut unwell = Vec::new();
        for manifest in &manifests.apps {
            let current = client.find_app(&manifest.name).await?;
            let change = Change::new(current.as_ref(), manifest);
            say(&change)?;
            match (change.kind(), current) {
                (ChangeKind::None, Some(app)) if !is_well(app.status.phase) => unwell.push(app),
                (ChangeKind::None, _) => {}
                _ => changes.push((manifest, change)),
            }
        }
        if self.dry_run || (changes.is_empty() && unwell.is_empty()) {
            return Ok(Outcome::Done);
        }
        say("")?;
        self.carry_out(&client, &changes, unwell).await
    }

    /// Writes in order, then waits for all at once, so that one that starts slowly holds up no
    /// other.
    async fn carry_out(
        &self,
        client: &Client,
        changes: &[(&AppManifest, Change)],
        unwell: Vec<AppResource>,
    ) -> anyhow::Result<Outcome> {
        let mut apps: Vec<_> = unwell.into_iter().map(|app| (app, Instant::now())).collect();
        let mut refused = None;
        for (i, (manifest, change)) in changes.iter().enumerate() {
            let since = Instant::now();
            match write(client, manifest, change.kind()).await {
                Ok(app) => apps.push((app, since)),
                Err(error) => {
                    refused = Some((&changes[i..], error));
                    break;
                }
            }
        }
        let mut worst = Outcome::Done;
        if let Some(limit) = self.wait.limit() {
            let followed = apps.iter().map(|(app, since)| follow(client, app, *since, limit));
            for outcome in join_all(followed).await {
                worst = worst.max(outcome?);
            }
        } else {
            for (app, _) in &apps {
                worst = worst.max(report_accepted(app)?);
            }
        }
        let Some((rest, error)) = refused else { return Ok(worst) };
        let names: Vec<_> = rest.iter().map(|(manifest, _)| &*manifest.name).collect();
        Err(anyhow::Error::from(error).context(format!("not applied: {}", names.join(", "))))
    }
}

/// Only if the app is still as the plan saw it.
async fn write(
    client: &Client,
    manifest: &AppManifest,
    kind: &ChangeKind,
) -> Result<AppResource, ClientError> {
    let (name, value) = match kind {
        ChangeKind::Update { revision, .. } => etag(*revision),
        ChangeKind::Create { .. } | ChangeKind::None => (header::IF_NONE_MATCH, "*".to_owned()),
    };
    let request = client.request(Method::PUT, &["apps", &manifest.name], &[]);
    client.json(request.header(name, value).json(manifest)).await
}
