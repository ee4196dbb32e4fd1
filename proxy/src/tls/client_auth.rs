//! Clients that prove who they are with a certificate (mutual TLS).

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use rustls::{
    RootCertStore, ServerConfig, pki_types::CertificateDer, server::WebPkiClientVerifier,
};
use weir_config::{AppRoute, ClientAuth, TrafficPolicy};

use super::{
    Certificates,
    acceptor::{builder, config},
    hex, provider,
};

/// A client's own certificate, verified.
#[derive(Clone, Debug)]
pub(crate) struct ClientCertificate {
    /// The value of `Client-Cert` (RFC 9440), by which the app learns who asks.
    pub(crate) header: HeaderValue,
    /// The SHA-256 of its DER, by which the log tells who asked.
    fingerprint: [u8; 32],
}

impl ClientCertificate {
    pub(super) fn new(certificate: &CertificateDer<'_>) -> Option<Self> {
        let encoded = format!(":{}:", BASE64_STANDARD.encode(certificate));
        let header = HeaderValue::try_from(encoded).ok()?;
        let digest = digest::digest(&digest::SHA256, certificate);
        let fingerprint = digest.as_ref().try_into().ok()?;
        Some(Self { header, fingerprint })
    }

    pub(crate) fn fingerprint(&self) -> String {
        hex(&self.fingerprint)
    }
}

/// Nobody is let in; the log tells why.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the authorities of the app's `client_auth` cannot be used")]
pub(crate) struct BadClientAuth;

/// The server's side of a handshake in which the client is asked for a certificate, for each
/// policy that asks.
///
/// A policy's is made by the first client that needs it, within microseconds. Policies whose places
/// collide take turns in being made again, so that memory is bounded and nobody waits.
#[derive(Debug)]
pub(super) struct ClientAuthConfigs {
    certificates: Arc<Certificates>,
    places: Box<[ArcSwapOption<Compiled>]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Compiled {
    policy: Arc<TrafficPolicy>,
    config: Result<Arc<ServerConfig>, BadClientAuth>,
}

const PLACES: usize = 1024;

impl ClientAuthConfigs {
    pub(super) fn new(certificates: Arc<Certificates>) -> Self {
        let places = (0..PLACES).map(|_| ArcSwapOption::empty()).collect();
        Self { certificates, places, hasher: RandomState::new() }
    }

    /// `auth` is the route's own.
    pub(super) fn config(
        &self,
        route: &AppRoute,
        auth: &ClientAuth,
    ) -> Result<Arc<ServerConfig>, BadClientAuth> {
        let policy = &route.policy;
        let place = self.hasher.hash_one(Arc::as_ptr(policy)) as usize % PLACES;
        let place = &self.places[place];
        if let Some(compiled) = &*place.load()
            && Arc::ptr_eq(&compiled.policy, policy)
        {
            return compiled.config.clone();
        }
        let config = self.compile(auth).map(Arc::new).map_err(|reason| {
            tracing::error!(app = %route.app, reason, "`client_auth.ca` cannot be used");
            BadClientAuth
        });
        place.store(Some(Arc::new(Compiled { policy: policy.clone(), config: config.clone() })));
        config
    }

    /// There are no tickets here. A resumed session shows no certificate, so one from before the
    /// policy changed, or from before the certificate ran out, would be let in for ever.
    fn compile(&self, auth: &ClientAuth) -> Result<ServerConfig, String> {
        let mut roots = RootCertStore::empty();
        for root in &**auth.roots.certificates() {
            roots.add(CertificateDer::from(root.as_ref())).map_err(|error| error.to_string())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = match auth.optional {
            true => verifier.allow_unauthenticated(),
            false => verifier,
        };
        let verifier = verifier.build().map_err(|error| error.to_string())?;
        let builder = builder().map_err(|error| error.to_string())?;
        Ok(config(builder.with_client_cert_verifier(verifier), self.certificates.clone()))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use weir_config::{Activity, AppName, RouteState};

    use super::*;

    fn route(roots: Vec<Arc<[u8]>>) -> AppRoute {
        let client_auth = Some(ClientAuth { roots: roots.into_iter().collect(), optional: false });
        let app: AppName = "private".parse().unwrap();
        AppRoute {
            activity: Activity::default().app(&app),
            app,
            hostnames: Vec::new(),
            state: RouteState::Starting,
            policy: Arc::new(TrafficPolicy { client_auth, ..TrafficPolicy::default() }),
            wake_timeout: AppRoute::DEFAULT_WAIT,
            queue: AppRoute::DEFAULT_QUEUE,
        }
    }

    fn root() -> Arc<[u8]> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Arc::from(&**root.der())
    }

    /// The same with a policy that is equal and another.
    fn changed(route: &AppRoute) -> AppRoute {
        AppRoute { policy: Arc::new((*route.policy).clone()), ..route.clone() }
    }

    fn config(
        configs: &ClientAuthConfigs,
        route: &AppRoute,
    ) -> Result<Arc<ServerConfig>, BadClientAuth> {
        configs.config(route, route.policy.client_auth.as_ref().unwrap())
    }

    fn configs() -> ClientAuthConfigs {
        let (_, snapshots) = weir_config::channel(weir_config::Snapshot::default());
        ClientAuthConfigs::new(Arc::new(Certificates::new(snapshots)))
    }

    #[test]
    fn a_policy_s_config_is_made_once() {
        let (configs, route) = (configs(), route(vec![root()]));
        let first = config(&configs, &route).unwrap();
        assert!(Arc::ptr_eq(&first, &config(&configs, &route).unwrap()));
        assert!(!Arc::ptr_eq(&first, &config(&configs, &changed(&route)).unwrap()));
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let (configs, route) = (configs(), route(vec![root()]));
        let made: Vec<_> = (0..2 * PLACES)
            .map(|_| Arc::downgrade(&config(&configs, &changed(&route)).unwrap()))
            .collect();
        let kept = made.iter().filter(|config| config.strong_count() > 0).count();
        assert!((1..=PLACES).contains(&kept), "{kept}");
    }

    #[test]
    fn roots_that_cannot_be_used_let_nobody_in() {
        for roots in [vec![], vec![Arc::from(&b"garbage"[..])], vec![root(), Arc::from(&b""[..])]] {
            config(&configs(), &route(roots)).unwrap_err();
        }
    }
}
