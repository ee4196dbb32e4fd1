//! `weir cert`: certificates, and the authorities that they are ordered from.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use weir_config::{AcmeChallenge, EabSpec, IssuerManifest, IssuerSpec, Span};
use weir_control::api::wire::{CertificateResource, CertificateUpload, IssuerResource};
use zeroize::Zeroizing;

use super::{
    change::counted,
    client::{Client, Connection},
    outcome::{Outcome, say, say_aside},
    output::{Ls, Show},
    table::Table,
};

/// Show, upload and renew certificates, and say who issues them.
///
/// With an issuer set up, Weir orders a certificate for each host name that an app has, and renews
/// it in time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir cert issuer set le --directory https://acme-v02.api.letsencrypt.org/directory \\
    --email ops@example.com --agree-to-terms
  weir cert ls
  weir cert show www.example.com --wait 60s
  weir cert upload --chain chain.pem --key key.pem
  weir cert renew www.example.com
  weir cert delete www.example.com

Exit codes: 0 done, 1 a file cannot be read, 2 the server refuses or is not there, 3 the certificate
is not to be had.")]
pub(crate) struct Cert {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them, and those that are wanted
    #[command(alias = "list")]
    Ls(Ls),
    /// Show one
    Show {
        #[command(flatten)]
        one: Show,
        /// Wait so long for it to be there
        #[arg(long, value_name = "SPAN", value_parser = Span::parse)]
        wait: Option<Span>,
    },
    /// Use one of your own, for all of its names
    Upload(Upload),
    /// Order a new one now
    Renew { name: String },
    /// Delete one; what an app needs is ordered anew
    #[command(alias = "rm")]
    Delete { name: String },
    /// Say which authorities issue them
    #[command(subcommand)]
    Issuer(IssuerVerb),
}

#[derive(Debug, Args)]
struct Upload {
    /// PEM: the certificate itself first, then its authorities
    #[arg(long, value_name = "FILE")]
    chain: PathBuf,
    /// PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, Subcommand)]
enum IssuerVerb {
    /// List them, in the order in which they are asked
    #[command(alias = "list")]
    Ls(Ls),
    /// Make one, or change it
    Set(SetIssuer),
    /// Delete one; what it has issued stays
    Rm { name: String },
}

#[derive(Debug, Args)]
struct SetIssuer {
    name: String,
    /// The URL of its ACME directory
    #[arg(long, value_name = "URL")]
    directory: String,
    /// Where it writes to when something is wrong
    #[arg(long, value_name = "ADDRESS")]
    email: Vec<String>,
    /// Says that you accept its terms of service
    #[arg(long)]
    agree_to_terms: bool,
    /// Which of its profiles to order by
    #[arg(long)]
    profile: Option<String>,
    /// How it is shown that a name is yours [default: by DNS in zones of Weir's, else over HTTP]
    #[arg(long, value_enum)]
    challenge: Option<Challenge>,
    /// What CAA records call it, as letsencrypt.org: then your zones allow your accounts only
    #[arg(long, value_name = "NAME")]
    caa: Option<String>,
    /// Which account of yours with it this is for
    #[arg(long, value_name = "ID")]
    eab_key_id: Option<String>,
    /// A file with the key of that account, in base64url. Left out, it stays what it is
    #[arg(long, value_name = "FILE", requires = "eab_key_id")]
    eab_key_file: Option<PathBuf>,
    /// PEM of authorities that its directory may have its own certificate from
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// The lowest is asked first, the others when it fails
    #[arg(long, default_value_t = 0)]
    rank: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Challenge {
    #[value(name = "http-01")]
    Http,
    #[value(name = "tls-alpn-01")]
    Tls,
    #[value(name = "dns-01")]
    Dns,
}

impl From<Challenge> for AcmeChallenge {
    fn from(challenge: Challenge) -> Self {
        match challenge {
            Challenge::Http => Self::Http,
            Challenge::Tls => Self::Tls,
            Challenge::Dns => Self::Dns,
        }
    }
}

impl Cert {
    pub(super) async fn run(self) -> anyhow::Result<Outcome> {
        let client = self.connection.open()?;
        match self.verb {
            Verb::Ls(Ls { output }) => {
                let list = client.all(&["certificates"]).await?;
                return output.list(list, "no certificates but Weir's own", table);
            }
            Verb::Show { one, wait } => return show(&client, one, wait).await,
            Verb::Upload(upload) => upload.run(&client).await?,
            Verb::Renew { name } => {
                let path = ["certificates", &name, "actions", "renew"];
                client.send(client.request(Method::POST, &path, &[])).await?;
                say(format_args!("Certificate/{name}  is ordered; see: weir cert show {name}"))?;
            }
            Verb::Delete { name } => {
                client.delete(&["certificates", &name]).await?;
                say(format_args!("Certificate/{name}  deleted"))?;
            }
            Verb::Issuer(IssuerVerb::Ls(Ls { output })) => {
                let list = client.get(&["issuers"]).await?;
                return output.list(list, "no issuers", issuers);
            }
            Verb::Issuer(IssuerVerb::Set(set)) => set.run(&client).await?,
            Verb::Issuer(IssuerVerb::Rm { name }) => {
                client.delete(&["issuers", &name]).await?;
                say(format_args!("Issuer/{name}  deleted"))?;
            }
        }
        Ok(Outcome::Done)
    }
}

impl Upload {
    async fn run(self, client: &Client) -> anyhow::Result<()> {
        let body = CertificateUpload { chain: read(&self.chain)?, key: read(&self.key)? };
        let request = client.request(Method::POST, &["certificates"], &[]).json(&body);
        drop(Zeroizing::new(body.key));
        let CertificateResource { name, names, .. } = client.json(request).await?;
        Ok(say(format_args!("Certificate/{name}  is shown for {}", names.join(", ")))?)
    }
}

impl SetIssuer {
    async fn run(self, client: &Client) -> anyhow::Result<()> {
        let key = self.eab_key_file.as_ref().map(read).transpose()?;
        let eab = self.eab_key_id.map(|key_id| {
            let key = key.map(|key| key.trim().trim_end_matches('=').to_owned());
            EabSpec { key_id, key }
        });
        let spec = IssuerSpec {
            directory: self.directory,
            emails: self.email,
            terms_agreed: self.agree_to_terms,
            profile: self.profile,
            caa: self.caa,
            challenge: self.challenge.map(AcmeChallenge::from),
            eab,
            roots: self.roots.as_ref().map(read).transpose()?,
            rank: self.rank,
        };
        let name = self.name;
        let manifest = IssuerManifest { kind: "Issuer".to_owned(), name: name.clone(), spec };
        let request = client.request(Method::PUT, &["issuers", &name], &[]).json(&manifest);
        client.json::<IssuerResource>(request).await?;
        Ok(say(format_args!("Issuer/{name}  is asked for certificates; see: weir cert ls"))?)
    }
}

fn read(file: &PathBuf) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn table(certificates: Vec<CertificateResource>) -> Table<6> {
    let mut table = Table::new(["NAME", "SOURCE", "STATE", "ENDS", "RENEWED", "LAST-ERROR"]);
    for item in certificates {
        table.row([
            item.name,
            item.issuer.unwrap_or(item.source),
            item.state,
            item.not_after.unwrap_or_default(),
            item.renew_at.unwrap_or_default(),
            item.last_error.unwrap_or_default(),
        ]);
    }
    table
}

async fn show(client: &Client, one: Show, wait: Option<Span>) -> anyhow::Result<Outcome> {
    let path = ["certificates", &*one.name];
    let shown: CertificateResource = match wait {
        Some(Span(limit)) => client.settled(&path, limit).await?,
        None => client.get(&path).await?,
    };
    one.output.one(&shown, words)?;
    Ok(if shown.state == "failed" { Outcome::Failed } else { Outcome::Done })
}

fn words(shown: &CertificateResource) -> anyhow::Result<()> {
    let source = shown.issuer.as_ref().unwrap_or(&shown.source);
    let again =
        |at: &String| format!("{at}, after {}", counted(shown.failures as usize, "failure"));
    let retry = shown.retry_at.as_ref().map(again);
    let mut table = Table::new(["CERTIFICATE", &shown.name]);
    for (what, value) in [
        ("names", Some(&shown.names.join(", "))),
        ("source", Some(source)),
        ("state", Some(&shown.state)),
        ("proven by", shown.proof.as_ref()),
        ("begins", shown.not_before.as_ref()),
        ("ends", shown.not_after.as_ref()),
        ("renewed", shown.renew_at.as_ref()),
        ("last error", shown.last_error.as_ref()),
        ("tried again", retry.as_ref()),
    ] {
        if let Some(value) = value {
            table.row([what.to_owned(), value.clone()]);
        }
    }
    say(table)?;
    if shown.retry_at.is_some() {
        let name = &shown.name;
        say_aside(format_args!("the records that it needs: weir domain check '{name}'"))?;
        say_aside(format_args!("when that is mended: weir cert renew '{name}'"))?;
    }
    Ok(())
}

fn issuers(issuers: Vec<IssuerResource>) -> Table<5> {
    let mut table = Table::new(["NAME", "RANK", "DIRECTORY", "ACCOUNT", "LAST-ERROR"]);
    for IssuerResource { name, spec, status, .. } in issuers {
        table.row([
            name,
            spec.rank.to_string(),
            spec.directory,
            status.account.unwrap_or_default(),
            status.last_error.unwrap_or_default(),
        ]);
    }
    table
}
