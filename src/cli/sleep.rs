//! `weir sleep` and `weir wake`: now, instead of when nobody or somebody comes.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use weir_config::SleepLevel;
use weir_control::api::wire::{AppResource, Phase, SleepRequest};

use super::{
    client::{Client, Connection},
    outcome::Outcome,
    progress::{ROUND, WaitArgs, report, report_accepted, report_late},
};

/// Put an app to sleep now.
///
/// The next request wakes it. It is refused while a request is in flight, or while the app is not
/// ready.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir sleep shop
  weir sleep shop --level stopped

Exit codes: 0 asleep, 2 the server refuses or is not there, 3 it failed, 4 the time is up.")]
pub(crate) struct Sleep {
    /// The name of the app
    app: String,
    /// How deep
    #[arg(long, value_enum, default_value_t = Level::Paused)]
    level: Level,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// Frozen in memory; wakes in tens of milliseconds
    Paused,
    /// The process ends; frees its memory, and wakes as fast as the app starts
    Stopped,
}

impl Sleep {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let level = match self.level {
            Level::Paused => SleepLevel::Paused,
            Level::Stopped => SleepLevel::Stopped,
        };
        let asleep = |phase| match phase {
            Phase::Stopped | Phase::Degraded | Phase::Failed => true,
            Phase::Paused => level == SleepLevel::Paused,
            Phase::Ready | Phase::Progressing | Phase::Unknown => false,
        };
        let client = self.connection.open()?;
        let since = Instant::now();
        let limit = self.wait.limit();
        let request = SleepRequest { level: Some(level) };
        let app = client.act(&self.app, "sleep", &request, limit.unwrap_or_default()).await?;
        wait_for(&client, app, since, limit, asleep).await
    }
}

/// Wake an app now.
///
/// Does what a request would do, and waits until the app is ready.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir wake shop

Exit codes: 0 awake, 2 the server refuses or is not there, 3 it failed, 4 the time is up.")]
pub(crate) struct Wake {
    /// The name of the app
    app: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Wake {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let awake = |phase| matches!(phase, Phase::Ready | Phase::Degraded | Phase::Failed);
        let client = self.connection.open()?;
        let since = Instant::now();
        let limit = self.wait.limit();
        let nothing = serde_json::json!({});
        let app = client.act(&self.app, "wake", &nothing, limit.unwrap_or_default()).await?;
        wait_for(&client, app, since, limit, awake).await
    }
}

/// The server has waited already; this goes on where it stops, such as after its longest wait.
async fn wait_for(
    client: &Client,
    mut app: AppResource,
    since: Instant,
    limit: Option<Duration>,
    done: impl Fn(Phase) -> bool,
) -> anyhow::Result<Outcome> {
    let Some(limit) = limit else { return report_accepted(&app) };
    while !done(app.status.phase) {
        if since.elapsed() >= limit {
            return report_late(&app, since.elapsed());
        }
        tokio::time::sleep(ROUND).await;
        app = client.app(&app.name).await?;
    }
    report(client, &app, since.elapsed()).await
}
