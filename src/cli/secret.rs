//! `weir secret`: values for an app's environment that nobody else sees.

use std::{
    fs,
    io::{self, IsTerminal},
    path::PathBuf,
    time::Instant,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::{Method, header};
use weir_control::api::wire::{AppResource, KeyRotation, List, SecretResource};
use zeroize::Zeroizing;

use super::{
    client::{Client, Connection},
    outcome::{Outcome, say, say_aside},
    output::Output,
    progress::{WaitArgs, follow, report_accepted},
    table::Table,
};

/// Set and remove secrets of an app's environment.
///
/// A secret is a variable of the app's environment whose value is kept encrypted and never shown
/// again. Setting it to another value makes a new deployment. An app that is not there yet gets
/// its secrets when it is made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir secret set shop DATABASE_URL < database-url.txt
  weir secret set shop TLS_KEY --file key.pem
  weir secret ls shop
  weir secret rm shop DATABASE_URL
  weir secret rotate-key

Exit codes: 0 done, 1 there is no value, 2 the server refuses or is not there, 3 the deployment
failed, 4 the time is up and it goes on.")]
pub(crate) struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Set(Set),
    Ls(Ls),
    Rm(Rm),
    RotateKey(RotateKey),
}

/// Set a secret: from standard input, a file, or what is typed.
///
/// A value in the command line would be seen by everyone on this machine. One newline at the end
/// is left out.
#[derive(Debug, Args)]
struct Set {
    /// The name of the app
    app: String,
    /// The name of the variable
    key: String,
    /// Read the value from this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

/// List the names of an app's secrets.
#[derive(Debug, Args)]
struct Ls {
    /// The name of the app
    app: String,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Remove a secret.
#[derive(Debug, Args)]
struct Rm {
    /// The name of the app
    app: String,
    /// The name of the variable
    key: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    connection: Connection,
}

/// Encrypt all secrets with a new key, while everything runs.
#[derive(Debug, Args)]
struct RotateKey {
    #[command(flatten)]
    connection: Connection,
}

impl Secret {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        match self.verb {
            Verb::Set(set) => set.run().await,
            Verb::Ls(ls) => ls.run().await,
            Verb::Rm(rm) => rm.run().await,
            Verb::RotateKey(rotate) => rotate.run().await,
        }
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let value = match &self.file {
            Some(file) => fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?,
            None if io::stdin().is_terminal() => typed(&self.key)?,
            None => io::read_to_string(io::stdin()).context("cannot read the value")?,
        };
        let value = Zeroizing::new(value);
        let value = value.strip_suffix('\n').unwrap_or(&value);
        let value = value.strip_suffix('\r').unwrap_or(value);
        if value.is_empty() {
            say_aside("error: there is no value; write it to standard input, or name a --file")?;
            return Ok(Outcome::Invalid);
        }
        let since = Instant::now();
        let request = client.request(Method::PUT, &["apps", &self.app, "secrets", &self.key], &[]);
        let request = request.header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        client.send(request.body(value.to_owned())).await?;
        say(format_args!("App/{}  {} set", self.app, self.key))?;
        deployed(&client, &self.app, self.wait, since).await
    }
}

impl Ls {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let secrets: List<SecretResource> = client.get(&["apps", &self.app, "secrets"]).await?;
        self.output.list(secrets, format_args!("{} has no secrets", self.app), table)
    }
}

fn table(secrets: Vec<SecretResource>) -> Table<3> {
    let mut table = Table::new(["NAME", "VERSION", "UPDATED"]);
    for secret in secrets {
        table.row([secret.name, secret.version.to_string(), secret.updated_at]);
    }
    table
}

impl Rm {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let since = Instant::now();
        let path = ["apps", &self.app, "secrets", &self.key];
        client.send(client.request(Method::DELETE, &path, &[])).await?;
        say(format_args!("App/{}  {} removed", self.app, self.key))?;
        deployed(&client, &self.app, self.wait, since).await
    }
}

impl RotateKey {
    async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        let path = ["secrets", "actions", "rotate-key"];
        let request = client.request(Method::POST, &path, &[]);
        let rotation: KeyRotation = client.json(request).await?;
        let KeyRotation { key, resealed, unreadable } = rotation;
        say(format_args!("the new key is {key}; {resealed} values are sealed with it"))?;
        if unreadable.is_empty() {
            return Ok(Outcome::Done);
        }
        say(format_args!("their key is not there, set them again: {}", unreadable.join(", ")))?;
        Ok(Outcome::Failed)
    }
}

/// Tells what comes of the deployment, if there is one.
async fn deployed(
    client: &Client,
    app: &str,
    wait: WaitArgs,
    since: Instant,
) -> anyhow::Result<Outcome> {
    let Some(app) = client.find::<AppResource>(&["apps", app]).await? else {
        say(format_args!("App/{app}  is not there yet; it gets its secrets when it is made"))?;
        return Ok(Outcome::Done);
    };
    match wait.limit() {
        Some(limit) => follow(client, &app, since, limit).await,
        None => report_accepted(&app),
    }
}

/// One line of the terminal, which does not show it.
fn typed(key: &str) -> anyhow::Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

    let terminal = io::stdin();
    let shown = tcgetattr(&terminal).context("cannot ask the terminal")?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    say_aside(format_args!("The value of {key} (it is not shown):"))?;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = terminal.read_line(&mut line);
    tcsetattr(&terminal, OptionalActions::Flush, &shown)?;
    read.context("cannot read the value")?;
    Ok(line)
}
