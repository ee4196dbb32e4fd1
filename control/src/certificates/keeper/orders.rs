//! Orders: which are begun, and what has come of them.

use std::sync::Arc;

use weir_config::{Hostname, IssuerName};

use super::{CertificateError, Keeper, MOST_ORDERS, SOONEST_RENEWAL, now};
use crate::{
    acme::{self, Budget, Ended, Failure, Issued, Order, renew_at},
    certificates::{IssuerSeen, Source, read},
    store::{Cause, NewCertificate, Verb},
};

/// Below what Let's Encrypt allows an account: 300 orders at once, and then one in 36 seconds.
const ORDERS: (u32, u32) = (250, 40);

impl Keeper {
    /// Begins the orders that are due, as many as there may be at a time.
    pub(super) fn begin_due(&mut self) {
        let now = now();
        while self.orders.len() < MOST_ORDERS
            && let Some((at, name)) = self.due.first().cloned()
            && at <= now
        {
            self.due.remove(&(at, name.clone()));
            self.begin(&name, now);
        }
    }

    fn begin(&mut self, name: &Hostname, now: i64) {
        let Some(kept) = self.table.kept().get(name).cloned() else { return };
        let issuer = self.issuers.get(kept.failures.issuer(self.issuers.len())).cloned();
        let (Some(usual), Some(issuer)) = (kept.wanted, issuer) else { return };
        let is_wildcard = kept.names.iter().any(|name| name.starts_with("*."));
        let proof = issuer.spec.challenge.filter(|_| !is_wildcard).unwrap_or(usual);
        let budget = self.budgets.entry(issuer.name.clone());
        let budget = budget.or_insert_with(|| Budget::new(ORDERS.0, ORDERS.1, now));
        if let Err(at) = budget.take(now) {
            return self.change(name, |kept| kept.failures.next_at = at);
        }
        self.change(name, |kept| {
            (kept.is_being_ordered, kept.ordered_by) = (true, Some(proof));
        });
        tracing::info!(%name, issuer = %issuer.name, "a certificate is ordered");
        let ordered = (name.clone(), issuer.name.clone());
        let order = Order {
            names: kept.names.clone(),
            proof,
            issuer,
            former: kept.certificate.clone().filter(|_| kept.issuer.as_ref() == Some(&ordered.1)),
            around: self.around.clone(),
            told: self.told.0.clone(),
        };
        let id = self.orders.spawn(acme::order(order)).id();
        self.ordered.insert(id, ordered);
    }

    /// Takes in what has come of an order.
    pub(super) async fn take_in(&mut self, name: &Hostname, issuer: IssuerName, ended: Ended) {
        let Ended { account, result } = ended;
        self.challenges.remove(name);
        self.is_changed = true;
        let kept = match result {
            Ok(issued) => self
                .take_issued(name, &issuer, issued)
                .await
                .map_err(|error| Failure { message: error.to_string(), ..Failure::default() }),
            Err(failure) => Err(failure),
        };
        let outcome = if kept.is_ok() { "issued" } else { "failed" };
        self.around.metrics.orders.with_label_values(&[outcome]).inc();
        let error = kept.as_ref().err().map(|failure| failure.message.clone());
        if let Some(former) = self.seen.get(&issuer).map(|seen| (**seen).clone()) {
            let account = account.or(former.account);
            let seen = IssuerSeen { account, error, ..former };
            self.seen.insert(issuer.clone(), Arc::new(seen));
        }
        if let Err(failure) = kept {
            self.take_failure(name, &issuer, failure).await;
        }
    }

    async fn take_issued(
        &mut self,
        name: &Hostname,
        issuer: &IssuerName,
        issued: Issued,
    ) -> Result<(), CertificateError> {
        let Issued { chain_pem, key_pem, suggestion } = issued;
        let certificate = read(&chain_pem, &key_pem, now())?;
        let window = suggestion.map(|suggestion| suggestion.window);
        let renew_at = renew_at(certificate.valid, window, rand::random());
        // An authority that would have its newest one replaced at once is mistaken.
        let renew_at = renew_at.max(now() + SOONEST_RENEWAL);
        let new = NewCertificate {
            name,
            source: Source::Acme,
            issuer: Some(issuer),
            chain_pem: &chain_pem,
            key_pem: &key_pem,
            renew_at: Some(renew_at),
        };
        self.put(&new, certificate, Cause::of_weir(Verb::Issue)).await?;
        if let Some(suggestion) = suggestion {
            self.suggestions.due.insert((now() + suggestion.ask_again, name.clone()));
        }
        tracing::info!(%name, %issuer, "a certificate has come");
        Ok(())
    }

    async fn take_failure(&mut self, name: &Hostname, issuer: &IssuerName, failure: Failure) {
        let Failure { message, retry_after, is_limited, is_over } = failure;
        let former = self.table.kept().get(name).map(|kept| kept.failures.clone());
        let failures = former.unwrap_or_default().after(
            message,
            is_limited,
            retry_after,
            self.issuers.len(),
            now(),
        );
        let (message, next_at) = (&failures.message, failures.next_at - now());
        tracing::warn!(%name, %issuer, message, again_in_seconds = next_at, "an order failed");
        if let Err(error) = self.around.store.order_failed(name, &failures, is_over).await {
            tracing::warn!(%name, %error, "that an order failed is not noted");
        }
        self.change(name, |kept| {
            (kept.is_being_ordered, kept.failures) = (false, failures);
        });
    }
}
