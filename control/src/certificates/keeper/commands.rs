//! What operators ask of the keeper.

use std::sync::Arc;

use tokio::sync::oneshot;
use weir_config::{Certificate, Hostname};
use zeroize::Zeroizing;

use super::{Keeper, now};
use crate::{
    certificates::{BadCertificate, Kept, Source, read, read::chain_pem},
    store::{Cause, NewCertificate, StoreError, Target, Verb},
};

/// What may be asked of the keeper.
#[derive(Debug)]
pub(crate) enum Command {
    Upload {
        actor: String,
        chain_pem: String,
        key_pem: Zeroizing<String>,
        reply: oneshot::Sender<Result<Hostname, CertificateError>>,
    },
    /// Order a new one now.
    Renew {
        actor: String,
        name: Hostname,
        reply: oneshot::Sender<Result<(), CertificateError>>,
    },
    Delete {
        actor: String,
        name: Hostname,
        reply: oneshot::Sender<Result<(), CertificateError>>,
    },
    /// The name leads here now: what failed before may be tried at once.
    Ready(Hostname),
    /// The store's rows are sealed anew.
    KeysRotated,
    /// The local authority has made another certificate for the base domain.
    LocalRenewed(Arc<Certificate>),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("there is no certificate `{0}`; see `weir cert ls`")]
    NotFound(Hostname),
    #[error("`{0}` is not ordered by Weir; only those from an authority can be renewed")]
    NotOrdered(Hostname),
    #[error("no authority is set up; make one first: weir cert issuer set")]
    NoIssuer,
    #[error("`{0}` is Weir's own, for when there is no other, and stays")]
    Local(Hostname),
    #[error(transparent)]
    Bad(#[from] BadCertificate),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Keeper {
    pub(super) async fn obey(&mut self, command: Command) {
        // Who asked may have given up: then nobody needs the answer.
        match command {
            Command::Upload { actor, chain_pem, key_pem, reply } => {
                _ = reply.send(self.upload(&actor, &chain_pem, &key_pem).await);
            }
            Command::Renew { actor, name, reply } => {
                _ = reply.send(self.renew(&actor, &name).await);
            }
            Command::Delete { actor, name, reply } => {
                _ = reply.send(self.delete(&actor, &name).await);
            }
            Command::Ready(name) => {
                let has_failed =
                    |kept: &Arc<Kept>| kept.failures.count > 0 && !kept.failures.is_limited;
                if self.table.kept().get(&name).is_some_and(has_failed) {
                    self.change(&name, |kept| kept.failures.next_at = 0);
                }
            }
            Command::LocalRenewed(local) => {
                self.table.set_local(local);
                self.is_changed = true;
            }
            Command::KeysRotated => match self.load().await {
                Ok(()) => {}
                Err(error) => tracing::error!(%error, "the certificates cannot be read"),
            },
        }
    }

    async fn upload(
        &mut self,
        actor: &str,
        chain: &str,
        key_pem: &str,
    ) -> Result<Hostname, CertificateError> {
        let certificate = read(chain, key_pem, now())?;
        let name = certificate.names[0].clone();
        let new = NewCertificate {
            name: &name,
            source: Source::Upload,
            issuer: None,
            chain_pem: &chain_pem(&certificate),
            key_pem,
            renew_at: None,
        };
        let cause = Cause { actor, verb: Verb::Upload, key: None };
        self.put(&new, certificate, cause).await?;
        self.wanted_as_of = None;
        Ok(name)
    }

    async fn renew(&mut self, actor: &str, name: &Hostname) -> Result<(), CertificateError> {
        let kept = self.table.kept().get(name);
        let kept = kept.ok_or_else(|| CertificateError::NotFound(name.clone()))?;
        if kept.wanted.is_none() {
            return Err(CertificateError::NotOrdered(name.clone()));
        }
        if self.issuers.is_empty() {
            return Err(CertificateError::NoIssuer);
        }
        let cause = Cause { actor, verb: Verb::Renew, key: None };
        let message = "another one is ordered".to_owned();
        self.around.store.act_done(cause, Target::certificate(name), message).await?;
        self.change(name, |kept| {
            kept.is_forced = true;
            kept.failures.next_at = 0;
        });
        Ok(())
    }

    async fn delete(&mut self, actor: &str, name: &Hostname) -> Result<(), CertificateError> {
        if !self.table.kept().contains_key(name) {
            return Err(match *name == self.around.base_domain {
                true => CertificateError::Local(name.clone()),
                false => CertificateError::NotFound(name.clone()),
            });
        }
        self.forget(name, Cause { actor, verb: Verb::Delete, key: None }).await?;
        // It may be wanted still, and then it is ordered anew.
        self.wanted_as_of = None;
        Ok(())
    }
}
