//! What can go wrong with the store, by what the caller can do about it.

use std::sync::Arc;

use weir_config::{
    AppName, FailoverName, HostPath, Hostname, Problems, ProviderName, SecretName, ShardName,
};

use super::Kind;
use crate::{key_file::NoKey, seal::SealError, transition::Refused};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no {kind} `{name}`")]
    NotFound { kind: Kind, name: String },
    #[error("the {kind} `{name}` exists already; change it with PUT, or choose another name")]
    NameTaken { kind: Kind, name: String },
    #[error("{hostname} is served by the app `{app}` already; remove it there first")]
    HostnameTaken { hostname: HostPath, app: AppName },
    /// Named by a policy, at this place of it.
    #[error(
        "{hostname} is steered by the failover policy `{policy}` already; remove it there first"
    )]
    HostnameSteered { pointer: String, hostname: Hostname, policy: FailoverName },
    /// Named by an app, at this place of it.
    #[error("there is no shard `{shard}`; apply it first")]
    NoSuchShard { pointer: String, shard: ShardName },
    /// Named by an app.
    #[error("there is no failover policy `{0}`; apply it first")]
    NoSuchPolicy(FailoverName),
    #[error(
        "the failover policy `{0}` has Weir's own proxies as a target, and an app cannot be its \
         own target; take `own` out there, or name another policy"
    )]
    OwnTarget(FailoverName),
    #[error("the shard `{shard}` is used by {}; change or delete that first", list(apps))]
    ShardInUse { shard: ShardName, apps: Vec<AppName> },
    #[error("`{0}` is a secret of this app and a variable in its `env`; remove one of them first")]
    SecretIsVariable(SecretName),
    #[error("an app has at most {most} secrets")]
    TooManySecrets { most: usize },
    #[error("{0} has no image, and so no environment to put a secret in")]
    NoImage(AppName),
    #[error("messages of the standard format are signed: write a secret")]
    NoSigningSecret,
    #[error("write the key that the authority has told you with the `key_id`")]
    NoEabKey,
    #[error("there are {most} issuers already; delete one first")]
    TooManyIssuers { most: i64 },
    #[error("there are {most} notifiers already; delete one first")]
    TooManyNotifiers { most: i64 },
    #[error("there is no provider `{provider}`; apply it first")]
    NoSuchProvider { provider: ProviderName },
    #[error(
        "the provider `{provider}` carries out {}; change or delete that first",
        these(policies)
    )]
    ProviderInUse { provider: ProviderName, policies: Vec<FailoverName> },
    /// Neither written nor kept; where it is to be written.
    #[error("nothing proves to the provider who asks: write it")]
    NoProviderSecret { pointer: &'static str },
    #[error("there are {most} providers already; delete one first")]
    TooManyProviders { most: i64 },
    #[error(transparent)]
    NoKey(#[from] NoKey),
    #[error("a secret cannot be sealed or opened: {0}")]
    Seal(#[from] SealError),
    #[error("a thousand invitations of devices wait to be used; let some expire")]
    TooManyInvites,
    #[error("the host `local` is the machine that Weir runs on, and stays; cordon or drain it")]
    LocalHost,
    #[error("the {kind} has changed: it is at revision {found}, not {expected}; read it again")]
    Conflict { kind: Kind, found: u64, expected: u64 },
    /// It was to be changed only if it is there.
    #[error("there is no {kind} `{name}`, so it is at no revision; leave out If-Match")]
    Absent { kind: Kind, name: String },
    /// Records that do not go together with the others of their zone.
    #[error("{0}")]
    Records(Problems),
    #[error("no app of an image is placed on the shard `{0}`; write `placement: {{shard: {0}}}`")]
    NothingOnShard(ShardName),
    #[error("op_{0} is over, or is nothing that goes on by itself; cancel a deployment by its app")]
    NotCancelled(u64),
    /// Of a change of an app's deployments.
    #[error("{0}")]
    Refused(Refused),
    #[error("the disk of the state directory is full; free some space, nothing was changed")]
    Full,
    /// This process has let go of it: it ends, or another one takes over.
    #[error("another process is taking over; nothing was changed, try again in a moment")]
    Closed,
    #[error("the database failed: {0}")]
    Database(Arc<sqlx::Error>),
    #[error("the database cannot be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("the database holds a spec that cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    pub(crate) fn not_found(kind: Kind, name: &str) -> Self {
        Self::NotFound { kind, name: name.to_owned() }
    }

    /// The same for another whose write it has ended too.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Full => Self::Full,
            Self::Closed => Self::Closed,
            Self::Database(error) => Self::Database(error.clone()),
            other => sqlx::Error::Protocol(other.to_string()).into(),
        }
    }
}

fn list(apps: &[AppName]) -> String {
    named("app", apps)
}

fn these(policies: &[FailoverName]) -> String {
    named("failover policy", policies)
}

/// Enough names to know where to look.
fn named(kind: &str, all: &[impl std::fmt::Display]) -> String {
    const SHOWN: usize = 3;
    let names: Vec<_> = all.iter().take(SHOWN).map(|one| format!("the {kind} `{one}`")).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => names.join(" and "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// SQLite's primary result code for a full disk (`SQLITE_FULL`).
const SQLITE_FULL: &str = "13";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolClosed) {
            return Self::Closed;
        }
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            Some(SQLITE_FULL) => Self::Full,
            _ => Self::Database(Arc::new(error)),
        }
    }
}
