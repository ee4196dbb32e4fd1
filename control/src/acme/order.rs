//! One try to get a certificate, from its beginning or from where a crash left it.
//!
//! What the authority is to be asked with is in the store before it is asked, and where it answers
//! is there before it is asked on: so whoever comes after a crash goes on, and orders nothing twice.

use std::{sync::Arc, time::Duration};

use instant_acme::{
    Account, CertificateIdentifier, Error, Identifier, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::mpsc;
use weir_config::{AcmeChallenge, Certificate, Hostname};
use zeroize::Zeroizing;

use super::{Challenges, Ended, Failure, Issued, Issuer, client::Client, renewal};
use crate::{
    certificates::Surroundings, failpoint, key_file::NoKey, seal::SealError, store::StoreError,
};

/// A certificate to be ordered.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) names: Box<[Hostname]>,
    pub(crate) proof: AcmeChallenge,
    pub(crate) issuer: Arc<Issuer>,
    /// What it takes the place of, of an authority too.
    pub(crate) former: Option<Arc<Certificate>>,
    pub(crate) around: Arc<Surroundings>,
    pub(crate) told: mpsc::Sender<(Hostname, Challenges)>,
}

/// Why a try goes no further.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error(transparent)]
    Acme(Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NoKey(#[from] NoKey),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("a request for the certificate cannot be made: {0}")]
    Request(#[from] rcgen::Error),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Late(&'static str),
}

/// A nonce may be refused at any time (RFC 8555, 6.5). The library tries thrice; the whole is gone
/// through so often, each time from where it was.
const TRIES: usize = 6;
/// How long an authority may take to look, and to sign; the next try goes on waiting.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(50))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";
const SERVER_INTERNAL: &str = "urn:ietf:params:acme:error:serverInternal";

/// Makes one try.
pub(crate) async fn order(order: Order) -> Ended {
    let client = order.issuer.client.afresh();
    let (mut account, mut tries) = (None, 0);
    let result = loop {
        tries += 1;
        let stop = match order.go_on(&client, &mut account).await {
            Ok(issued) => break Ok(issued),
            Err(stop) => stop,
        };
        let goes_on = tries < TRIES
            && match stop.kind() {
                Some(BAD_NONCE) => true,
                // As after it was restored from a backup: it is told of us anew.
                Some(NO_ACCOUNT) => order.forget_account().await.is_ok(),
                _ => false,
            };
        if !goes_on {
            break Err(stop.failure(client.retry_after()));
        }
    };
    Ended { account, result }
}

impl Order {
    /// An authority that does not know us does not know our orders either.
    async fn forget_account(&self) -> Result<(), StoreError> {
        tracing::warn!(issuer = %self.issuer.name, "the authority does not know our account");
        self.around.store.forget_account(&self.issuer.name).await
    }

    async fn go_on(
        &self,
        client: &Client,
        account_url: &mut Option<String>,
    ) -> Result<Issued, Stop> {
        // First: the authority need not hear of what is bound to fail.
        let places = self.places().await?;
        let account = self.issuer.account(client.clone(), &self.around).await?;
        *account_url = Some(account.id().to_owned());
        let (mut order, key_pem) = self.find_or_make(&account).await?;
        if order.state().status == OrderStatus::Pending {
            self.prove(&mut order, &places).await?;
            let looked = order.poll_ready(&PATIENCE).await;
            if order.state().status != OrderStatus::Invalid {
                looked?;
            }
        }
        if order.state().status == OrderStatus::Invalid {
            return Err(Stop::Refused(why_invalid(&mut order).await));
        }
        if order.state().status == OrderStatus::Ready {
            failpoint::pass("before", "finalize");
            order.finalize_csr(&self.request(&key_pem)?).await?;
            failpoint::pass("after", "finalize");
        }
        let chain_pem = order.poll_certificate(&PATIENCE).await?;
        failpoint::pass("after", "certificate");
        let suggestion = match CertificateDer::from_pem_slice(chain_pem.as_bytes()) {
            Ok(leaf) => renewal::of(&account, &leaf).await,
            Err(_) => None,
        };
        Ok(Issued { chain_pem, key_pem, suggestion })
    }

    /// The order that a former try has left, or a new one; with the certificate's key.
    async fn find_or_make(
        &self,
        account: &Account,
    ) -> Result<(instant_acme::Order, Zeroizing<String>), Stop> {
        let (store, name) = (&self.around.store, &self.names[0]);
        let left = store.acme_order(name).await?;
        let left = left.filter(|l| l.issuer == self.issuer.name && *l.names == *self.names);
        let key_pem = match &left {
            Some(left) => {
                let key = self.around.keys.keys()?.open(&["acme-order", name], &left.key)?;
                Zeroizing::new(String::from_utf8_lossy(&key).into_owned())
            }
            None => {
                let key_pem = Zeroizing::new(KeyPair::generate()?.serialize_pem());
                let (issuer, keys) = (&self.issuer.name, &*self.around.keys);
                store.begin_order(issuer, &self.names, &key_pem, keys).await?;
                key_pem
            }
        };
        if let Some(url) = left.and_then(|left| left.url) {
            return Ok((account.order(url).await?, key_pem));
        }
        let order = self.make(account).await?;
        failpoint::pass("after", "order");
        store.order_is(name, order.url()).await?;
        Ok((order, key_pem))
    }

    async fn make(&self, account: &Account) -> Result<instant_acme::Order, Error> {
        let names = self.names.iter().map(|name| Identifier::Dns(name.to_string()));
        let names: Vec<_> = names.collect();
        let new = || {
            let new = NewOrder::new(&names);
            match &self.issuer.spec.profile {
                Some(profile) => new.profile(profile),
                None => new,
            }
        };
        // What replaces another is under no limit (RFC 9773, 5), but not everywhere known.
        if let Some(former) = &self.former {
            let former = CertificateDer::from(former.chain[0].to_vec());
            if let Ok(former) = CertificateIdentifier::try_from(&former)
                && let Ok(order) = account.new_order(&new().replaces(former)).await
            {
                return Ok(order);
            }
        }
        account.new_order(&new()).await
    }

    fn request(&self, key_pem: &str) -> Result<Vec<u8>, rcgen::Error> {
        let names: Vec<_> = self.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&KeyPair::from_pem(key_pem)?)?;
        Ok(request.der().to_vec())
    }
}

/// What the authority has found, in its own words.
async fn why_invalid(order: &mut instant_acme::Order) -> String {
    let mut told = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        if authorization.refresh().await.is_err() {
            continue;
        }
        let host = format!("{}", authorization.identifier());
        let errors = authorization.challenges.iter().filter_map(|c| c.error.as_ref());
        told.extend(errors.map(|error| format!("{host}: {error}")));
    }
    match told.as_slice() {
        [] => "the authority has refused the order".to_owned(),
        told => told.join("; "),
    }
}

impl Stop {
    /// Of a problem that the authority has told.
    fn kind(&self) -> Option<&str> {
        match self {
            Self::Acme(Error::Api(problem)) => problem.r#type.as_deref(),
            _ => None,
        }
    }

    fn failure(&self, retry_after: Option<i64>) -> Failure {
        let is_over = match self {
            Self::Refused(_) => true,
            // Without a type it is no word of ACME but a server's error page.
            Self::Acme(Error::Api(_)) => {
                let passes = [BAD_NONCE, RATE_LIMITED, SERVER_INTERNAL];
                self.kind().is_some_and(|kind| !passes.contains(&kind))
            }
            _ => false,
        };
        let is_limited = self.kind() == Some(RATE_LIMITED);
        Failure { message: message(self), retry_after, is_limited, is_over }
    }
}

/// An error with what is behind it.
fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
