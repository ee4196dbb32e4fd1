//! Where devices come in: new ones with an invitation, known ones with the certificate that they
//! got for it.

mod calls;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use weir_config::{
    CLASS_LABEL, DEVICE_LABEL, DisconnectSpec, Host, HostManifest, HostName, HostSpec,
};
use weir_deploy::{About, Arrivals, Arrived, Begin, Devices, Duplex, Enrol, Enrolled};

pub use self::calls::Calls;
use crate::{
    authority::{AuthorityError, DeviceAuthority},
    reconciler::World,
    store::{Cause, Claim, DeviceRecord, Invite, NoClaim, Precondition, Store, StoreError, Verb},
    time::unix_millis,
    token,
};

/// Devices that may be connected at once.
const MAX_DEVICES: usize = 10_000;
/// Strangers, until it is known whether they are devices.
const MAX_STRANGERS: usize = 512;
/// How long one may take to prove who it is, or to be enrolled.
const STRANGER_LIMIT: Duration = Duration::from_secs(10);
const MAX_ENROL: usize = 64 << 10;
/// After an accept that failed, as when no file can be opened.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// After the store did not tell who a device is.
const LOOK_UP_RETRY: Duration = Duration::from_secs(1);
/// A certificate of control is made anew after this, long before it ends.
const CERTIFICATE_FOR: Duration = Duration::from_hours(24 * 30);

/// Where devices come in, and how they are reached then.
pub struct DeviceOptions {
    pub arrivals: Vec<Box<dyn Arrivals>>,
    pub connected: Devices,
    /// Carries what apps on devices ask of other apps.
    pub calls: Arc<dyn Calls>,
    /// `HOST:PORT` that devices are told to connect to.
    pub address: Option<String>,
}

/// Lets devices in.
pub(crate) struct Gatekeeper {
    store: Store,
    world: watch::Receiver<Arc<World>>,
    calls: Arc<dyn Calls>,
    authority: DeviceAuthority,
    pub(crate) connected: Devices,
    /// The hash of the authority that an invitation tells of.
    authority_hash: String,
    pub(crate) address: Option<String>,
    epoch: u64,
    acceptor: RwLock<(TlsAcceptor, Instant)>,
    strangers: Arc<Semaphore>,
    devices: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("TLS for devices cannot be set up: {0}")]
    Tls(#[from] io::Error),
}

/// Takes in whoever comes by one way, until it is dropped.
pub(crate) async fn receive(gate: Arc<Gatekeeper>, arrivals: Box<dyn Arrivals>) {
    let mut inside = JoinSet::new();
    loop {
        let arrived = match arrivals.accept().await {
            Ok(arrived) => arrived,
            Err(error) => {
                tracing::warn!(%error, "a device could not be accepted");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        // Those that have ended are not kept.
        while inside.try_join_next().is_some() {}
        let gate = gate.clone();
        inside.spawn(async move {
            let from = arrived.from;
            if let Err(error) = gate.take_in(arrived).await {
                tracing::debug!(%from, %error, "not taken in");
            }
        });
    }
}

impl Gatekeeper {
    pub(crate) async fn new(
        store: Store,
        world: watch::Receiver<Arc<World>>,
        authority: DeviceAuthority,
        connected: Devices,
        calls: Arc<dyn Calls>,
        address: Option<String>,
    ) -> Result<Self, GateError> {
        let epoch = store.next_epoch().await?;
        let acceptor = RwLock::new((acceptor(&authority)?, Instant::now()));
        let der = CertificateDer::from_pem_slice(authority.pem.as_bytes());
        let der = der.map_err(io::Error::other)?;
        let authority_hash = Sha256::digest(&der).iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self {
            store,
            world,
            calls,
            authority,
            connected,
            authority_hash,
            address,
            epoch,
            acceptor,
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
            devices: Arc::new(Semaphore::new(MAX_DEVICES)),
        })
    }

    /// Invites a device: makes the token that it shows. Only its hash is kept.
    pub(crate) async fn invite(&self, invite: &Invite) -> Result<String, StoreError> {
        let secret = crate::random::hex(16);
        self.store.invite(&token::hash(&secret), invite).await?;
        Ok(format!("{}.{secret}", self.authority_hash))
    }

    /// Takes a device's identity from it, and its connection; whether there is such a device.
    pub(crate) async fn revoke(&self, name: &HostName) -> Result<bool, StoreError> {
        let revoked = self.store.revoke_device(name).await?;
        self.connected.disconnect(name);
        Ok(revoked)
    }

    async fn take_in(self: &Arc<Self>, arrived: Arrived) -> io::Result<()> {
        let Arrived { stream, from, node } = arrived;
        let Ok(stranger) = self.strangers.clone().try_acquire_owned() else {
            return Err(io::Error::other("too many at once"));
        };
        let acceptor = self.acceptor()?;
        let stream = timeout(STRANGER_LIMIT, acceptor.accept(stream)).await??;
        let shown = stream.get_ref().1.peer_certificates();
        let Some(shown) = shown.and_then(|chain| chain.first()) else {
            return timeout(STRANGER_LIMIT, self.enrol(stream, from, node)).await?;
        };
        let fingerprint = DeviceAuthority::fingerprint_of(shown).unwrap_or_default();
        drop(stranger);
        self.attend(stream, &fingerprint, node).await
    }

    /// Attends to a device until it goes, or its identity is taken from it.
    async fn attend(
        &self,
        stream: impl Duplex + 'static,
        fingerprint: &str,
        node: Option<String>,
    ) -> io::Result<()> {
        let Ok(_place) = self.devices.clone().try_acquire_owned() else {
            return Err(io::Error::other("too many devices"));
        };
        let DeviceRecord { name, node: bound, .. } = self.known(fingerprint).await?;
        // Whoever has its key and is not on its node is somebody else.
        if bound.is_some() && bound != node {
            tracing::warn!(device = %name, node, "refused: it is bound to another tailnet node");
            let why = "the device is bound to another node of the tailnet";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let begin = Begin { epoch: self.epoch, now: unix_millis() };
        let link = self.connected.begin(stream, &begin).await?;
        tracing::info!(device = %name, "connected");
        self.note(&name, Some(link.about())).await;
        let mut attended = pin!(self.connected.attend(&name, link.clone()));
        let ended = tokio::select! {
            biased;
            () = &mut attended => Ok(()),
            never = self.take_calls(&name, &link) => match never {},
            // Once it can be disconnected by its name: who was revoked before that is seen here.
            gone = self.is_another_by_now(fingerprint, &name) => {
                link.close();
                attended.await;
                Err(gone)
            }
        };
        tracing::info!(device = %name, "its connection has ended");
        self.note(&name, None).await;
        ended
    }

    /// Notes that a device was there; without that it is only not known.
    async fn note(&self, name: &HostName, about: Option<&About>) {
        if let Err(error) = self.store.device_seen(name, about).await {
            tracing::warn!(device = %name, %error, "could not be noted");
        }
    }

    /// Returns if a device is not, or no longer by this name, who it was when it came. What the store
    /// does not tell now is asked again: a device is not cut off for that.
    async fn is_another_by_now(&self, fingerprint: &str, name: &HostName) -> io::Error {
        loop {
            match self.known(fingerprint).await {
                Ok(device) if device.name == *name => return std::future::pending().await,
                Ok(_) => return io::Error::other("it has another name by now"),
                Err(gone) if gone.kind() == io::ErrorKind::PermissionDenied => return gone,
                Err(error) => tracing::warn!(device = %name, %error, "cannot be looked up"),
            }
            sleep(LOOK_UP_RETRY).await;
        }
    }

    async fn known(&self, fingerprint: &str) -> io::Result<DeviceRecord> {
        let device = self.store.device_of(fingerprint).await.map_err(io::Error::other)?;
        match device {
            Some(device) if device.revoked_at.is_none() => Ok(device),
            _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, "no device, or revoked")),
        }
    }

    /// Answers one request on a connection, which is to be one to be enrolled.
    async fn enrol(
        self: &Arc<Self>,
        stream: impl Duplex + 'static,
        from: SocketAddr,
        node: Option<String>,
    ) -> io::Result<()> {
        let node = node.as_deref();
        let service = service_fn(|request: Request<Incoming>| async move {
            let (status, body) = match self.enrolled(request, node).await {
                Ok(enrolled) => {
                    tracing::info!(device = enrolled.name, %from, "enrolled");
                    (StatusCode::OK, serde_json::to_vec(&enrolled).unwrap_or_default())
                }
                Err(refused) => {
                    tracing::warn!(%from, why = %refused.1, "not enrolled");
                    (refused.0, refused.1.into_bytes())
                }
            };
            let mut answer = Response::new(Full::<Bytes>::from(body));
            *answer.status_mut() = status;
            Ok::<_, Infallible>(answer)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).keep_alive(false);
        http.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
    }

    async fn enrolled(
        &self,
        request: Request<Incoming>,
        node: Option<&str>,
    ) -> Result<Enrolled, (StatusCode, String)> {
        if (request.method(), request.uri().path()) != (&Method::POST, "/enrol") {
            return Err((StatusCode::NOT_FOUND, "here devices are enrolled only".to_owned()));
        }
        let bad = |why: &dyn fmt::Display| (StatusCode::BAD_REQUEST, why.to_string());
        let body = Limited::new(request.into_body(), MAX_ENROL).collect().await;
        let body = body.map_err(|error| bad(&error))?.to_bytes();
        let enrol: Enrol = serde_json::from_slice(&body).map_err(|error| bad(&error))?;
        let fingerprint = DeviceAuthority::fingerprint_of_request(&enrol.request);
        let fingerprint = fingerprint.map_err(|error| bad(&error))?;
        let claim = Claim {
            hash: &token::hash(&enrol.token),
            fingerprint: &fingerprint,
            wish: enrol.name.to_ascii_lowercase().parse(),
            about: &enrol.about,
            node,
        };
        let internal = |error: &dyn fmt::Display| {
            (StatusCode::SERVICE_UNAVAILABLE, format!("try again: {error}"))
        };
        let claimed = self.store.claim(claim).await.map_err(|error| internal(&error))?;
        let (name, invite) =
            claimed.map_err(|refused: NoClaim| (StatusCode::FORBIDDEN, refused.to_string()))?;
        self.make_host(&name, &invite).await.map_err(|error| internal(&error))?;
        // Whoever had the name before has it no longer.
        self.connected.disconnect(&name);
        let certificate = self.authority.device(&enrol.request, &name);
        Ok(Enrolled {
            name: name.to_string(),
            certificate: certificate.map_err(|error| internal(&error))?,
            authority: self.authority.pem.clone(),
            cluster: self.store.cluster_id().to_owned(),
            now: unix_millis(),
        })
    }

    /// Makes the device a host, unless there is one of its name already: then that is what it is.
    async fn make_host(&self, name: &HostName, invite: &Invite) -> Result<(), StoreError> {
        if self.store.find::<Host>(name).await?.is_some() {
            return Ok(());
        }
        let mut labels = invite.labels.clone();
        labels.insert(CLASS_LABEL.to_owned(), "edge".to_owned());
        labels.insert(DEVICE_LABEL.to_owned(), name.to_string());
        let spec = HostSpec {
            engine: Some(HostSpec::DEVICE.to_owned()),
            labels,
            // What is on a device is there for a reason.
            disconnect: DisconnectSpec { replace: false, ..DisconnectSpec::default() },
            ..HostSpec::default()
        };
        let (kind, written) = ("Host".to_owned(), name.to_string());
        let host = Host::from_manifest(&HostManifest { kind, name: written, spec: spec.clone() })
            .map_err(|problems| StoreError::Corrupt(problems.to_string()))?;
        let cause = Cause { actor: "device", verb: Verb::Put, key: None };
        match self.store.put(&spec, &host, Precondition::New, cause).await {
            Ok(_) | Err(StoreError::NameTaken { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The acceptor, made anew now and then, so that its certificate never ends.
    fn acceptor(&self) -> io::Result<TlsAcceptor> {
        {
            let present = self.acceptor.read().unwrap_or_else(PoisonError::into_inner);
            if present.1.elapsed() < CERTIFICATE_FOR {
                return Ok(present.0.clone());
            }
        }
        let made = acceptor(&self.authority).map_err(io::Error::other)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) =
            (made.clone(), Instant::now());
        Ok(made)
    }
}

/// TLS that shows who control is, and asks for a device's certificate; who has none may only be
/// enrolled.
fn acceptor(authority: &DeviceAuthority) -> Result<TlsAcceptor, GateError> {
    let ca = CertificateDer::from_pem_slice(authority.pem.as_bytes()).map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(io::Error::other)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(io::Error::other)?;
    let (chain, key) = authority.control()?;
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf, ca], key)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl fmt::Debug for DeviceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceOptions").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for Gatekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gatekeeper").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
