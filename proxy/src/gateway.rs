//! What becomes of a request, step by step.

use std::{
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::Digest,
    proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session},
    upstreams::peer::HttpPeer,
};
use tokio::sync::watch;
use weir_config::{Observe, PlainHttp, Snapshots, UpstreamConnection};

use crate::{
    access_log::{self, AccessLog},
    admit::Stop,
    asked::Asked,
    connection::{self, Connection},
    context::Context,
    debug, forwarded, grpc,
    host::host_of,
    metrics::Unrouted,
    pages::{self, Refusal},
    request_limits, targets, timeline, timeouts,
    tls::{Certificates, EarlyWake},
    upstream::{Dial, Roots, reach},
};

/// Carries requests from clients to apps.
pub(crate) struct Gateway {
    pub(crate) snapshots: Snapshots,
    pub(crate) observer: Arc<dyn Observe>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) early_wake: Arc<EarlyWake>,
    pub(crate) unrouted: Arc<Unrouted>,
    pub(crate) roots: Roots,
    pub(crate) devices: Arc<dyn Dial>,
    pub(crate) https_port_public: u16,
    /// What we are called where requests go round.
    pub(crate) cdn_id: String,
    /// Turns true when clients are told to go, and changes by nothing else.
    pub(crate) closing: watch::Receiver<bool>,
    /// Turns true when nobody waits for an app any longer.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) access_log: Option<AccessLog>,
    /// A request that waits longer for its answer has its timeline logged.
    pub(crate) slow_request: Duration,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new()
    }

    /// Pingora would add a compressor that is off.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        if let Some(connection) = connection::of(session) {
            connection.request_begins();
        }
        ctx.client = forwarded::Client::of(session);
        // A request that is sent early waits its turn instead of spoiling the one before it. Bytes
        // after a WebSocket handshake are not a request.
        let upgrade = session.is_upgrade_req();
        session.set_pipelining_enabled(!upgrade);
        // A client that closes its connection ends its request (`abort_on_close`, Pingora's
        // default): otherwise one that gave up would keep an app awake until the app notices.
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        ctx.caller = connection::of(session).and_then(|connection| connection.caller.clone());
        let is_plain = !ctx.client.https && ctx.caller.is_none();
        if is_plain && let Some(answer) = self.challenge(session) {
            return pages::plain(session, answer).await.map(|()| true);
        }
        if is_plain && !self.serves_plainly(session) {
            return self.redirect(session, ctx).await.map(|()| true);
        }
        match self.admit(session, ctx).await {
            Ok(()) => {
                ctx.timeline.admitted = Some(Instant::now());
                Ok(false)
            }
            Err(Stop::Refused(refusal)) => {
                self.unrouted.count(&refusal);
                refuse(session, &refusal, ctx).await.map(|()| true)
            }
            Err(Stop::ClientGone) => Err(client_gone()),
        }
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        if ctx.attempts.tries > 0 {
            self.admit_again(session, ctx).await?;
        }
        let (Some(route), Some(endpoint)) = (&ctx.route, &ctx.endpoint) else {
            return Error::e_explain(ErrorType::InternalError, "not admitted");
        };
        let now = Instant::now();
        ctx.attempts.tries += 1;
        ctx.attempts.since.get_or_insert(now);
        ctx.timeline.connect_begun = Some(now);
        ctx.body = 0;
        let mut reached = reach(session, &route.policy, endpoint, &self.roots, &self.devices);
        ctx.gate = reached.gate;
        timeouts::bound(session, &mut reached.peer, ctx)?;
        Ok(Box::new(reached.peer))
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        if let Some(gate) = &ctx.gate {
            gate.begin();
        }
        if let Some(route) = &ctx.route {
            let connection =
                if reused { UpstreamConnection::Reused } else { UpstreamConnection::New };
            route.activity.connection(connection);
        }
        ctx.timeline.connected = Some(Instant::now());
        ctx.timeline.reused = reused;
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if session.is_body_empty() {
            ctx.timeline.sent = Some(Instant::now());
        }
        forwarded::rewrite(session, request, ctx)?;
        if ctx.endpoint.as_ref().is_some_and(|endpoint| endpoint.id.target().is_some()) {
            request.append_header(targets::CDN_LOOP, self.cdn_id.as_str())?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        timeouts::check(session, ctx)?;
        if let Some(body) = body {
            request_limits::check_body(session, body, ctx)?;
        }
        if end_of_stream {
            ctx.timeline.sent = Some(Instant::now());
        }
        // The end of a body in a frame of its own. Pingora would write the end of a chunked body
        // for the empty frame, and another one for the end: the start of a request that nobody
        // sent, on a connection that others use next (its issue 935, open in 0.9.1).
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let status = response.status;
        if let Some(gate) = ctx.gate.as_ref().filter(|_| status == StatusCode::SWITCHING_PROTOCOLS)
        {
            gate.tunnels();
        }
        let is_final = !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS;
        if is_final && !self.takes_answer(status.as_u16(), session, ctx) {
            let status = ErrorType::HTTPStatus(status.as_u16());
            return Err(Error::explain(status, "an answer that is a failure").into_up());
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        ctx.timeline.answered = Some(Instant::now());
        debug::tell(session.req_header(), response, ctx)?;
        // A client of HTTP/1.0 knows no chunks, which Pingora would send it: to it, the end of the
        // connection is the end of the answer.
        let old = session.req_header().version == Version::HTTP_10;
        let until_closed = old && response.remove_header(&header::TRANSFER_ENCODING).is_some();
        // Asked without the lock that a look at the value takes. An error: the sender is gone.
        if until_closed || self.closing.has_changed().unwrap_or(true) {
            session.set_keepalive(None);
        }
        Ok(())
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Context,
    ) -> Result<Option<Bytes>> {
        ctx.grpc_status = grpc::status(trailers);
        Ok(None)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        timeouts::check(session, ctx).map(|()| None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(route) = &ctx.route {
            route.activity.connection(UpstreamConnection::Failed);
        }
        let again = self.connects_again(&error, ctx);
        error.set_retry(again);
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        let again = self.sends_again(&error, session, ctx, reused);
        let mut error = error.more_context(format!("Peer: {peer}"));
        error.set_retry(again);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        // What the client sent may still lie unread between its request and the next one.
        session.set_keepalive(None);
        let refusal = ctx.refusal.take().or_else(|| refusal_of(error));
        let status = refusal.as_ref().map_or(0, |refusal| refusal.status().as_u16());
        if let Some(refusal) = refusal
            && access_log::final_status(session).is_none()
        {
            // If this fails too, the client is gone, and the access log says so.
            let _ = refuse(session, &refusal, ctx).await;
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        access_log::record(self.access_log.as_ref(), session, error, ctx);
        timeline::record(session, error, ctx, self.slow_request);
        let is_sent = session.is_body_done();
        let Some(connection) = connection::of(session) else { return };
        if error.is_some_and(|error| *error.esource() == ErrorSource::Downstream) {
            connection.request_is_cancelled(ctx.timeline.arrived.elapsed());
        }
        // A client that is sending still is not done, whatever it was answered.
        if is_sent {
            connection.request_ends();
        }
    }

    /// The access log has the same with more about the request.
    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    /// A retry that helped is no news; one that did not is in the access log.
    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Context,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// Where a certificate authority asks (RFC 8555, 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

impl Gateway {
    /// What a certificate authority is answered. For other tokens an app may have an answer itself.
    fn challenge(&self, session: &Session) -> Option<Bytes> {
        let token = session.req_header().uri.path().strip_prefix(CHALLENGES)?;
        let snapshot = self.snapshots.current();
        let answer = snapshot.http_challenges.get(token)?;
        Some(Bytes::copy_from_slice(answer.as_bytes()))
    }

    /// Whether the app wants plain HTTP served and not redirected.
    fn serves_plainly(&self, session: &Session) -> bool {
        let request = session.req_header();
        host_of(request).is_some_and(|host| {
            let snapshot = self.snapshots.current();
            let route = snapshot.route(&host, request.uri.path());
            // Who must prove who it is does so in a TLS handshake.
            route.is_some_and(|route| {
                let policy = &route.policy;
                policy.plain_http == PlainHttp::Serve && policy.client_auth.is_none()
            })
        })
    }

    /// Plain HTTP is for finding HTTPS only, unless an app says otherwise. Wakes nothing.
    async fn redirect(&self, session: &mut Session, ctx: &Context) -> Result<()> {
        let request = session.req_header();
        let Some(host) = host_of(request) else {
            self.unrouted.count(&Refusal::BadHost);
            return pages::answer(session, &Refusal::BadHost, ctx.request_id).await;
        };
        let asked = Asked { host: &host, header: request, client: None };
        let location = asked.at(&host, true, Some(self.https_port_public));
        self.unrouted.count_redirect();
        pages::redirect(session, location).await
    }

    /// A connection that was made for another name does not carry requests for this one.
    pub(crate) fn is_misdirected(&self, session: &Session, host: &str) -> bool {
        let name = connection::of(session).and_then(Connection::server_name);
        name.is_some_and(|name| name != host && !self.certificates.same(name, host))
    }

    /// Pins a newer snapshot for the next attempt, after a pause for it to be made.
    async fn admit_again(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        let pause = std::mem::take(&mut ctx.attempts.pause);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.admit(session, ctx).await.map_err(|stop| match stop {
            Stop::ClientGone => client_gone(),
            Stop::Refused(refusal) => {
                let status = refusal.status().as_u16();
                ctx.refusal = Some(refusal);
                Error::new(ErrorType::HTTPStatus(status))
            }
        })
    }
}

/// Answers instead of an app.
async fn refuse(session: &mut Session, refusal: &Refusal, ctx: &mut Context) -> Result<()> {
    // An instance that had this request is free again.
    ctx.leases = None;
    ctx.reason = refusal.reason().map(str::to_owned);
    pages::answer(session, refusal, ctx.request_id).await
}

fn client_gone() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the client left while it waited").into_down()
}

/// The errors that are the instance's fault and not ours.
pub(crate) fn is_connect(error: &ErrorType) -> bool {
    use ErrorType::{ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout};
    matches!(error, ConnectError | ConnectNoRoute | ConnectRefused | ConnectTimedout)
}

/// What a client is told of a failure; nothing if it is not there to hear it.
fn refusal_of(error: &Error) -> Option<Refusal> {
    use ErrorType::{
        InvalidCert, ReadTimedout, TLSHandshakeFailure, TLSHandshakeTimedout, WriteTimedout,
    };
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, kind) if is_connect(kind) => Some(Refusal::ConnectFailed),
        (ErrorSource::Upstream, InvalidCert | TLSHandshakeFailure | TLSHandshakeTimedout) => {
            Some(Refusal::UpstreamUntrusted)
        }
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => Some(Refusal::UpstreamTimeout),
        (ErrorSource::Upstream, _) => Some(Refusal::UpstreamFailed),
        (
            ErrorSource::Downstream,
            ErrorType::InvalidHTTPHeader | ErrorType::Custom("InvalidChunk"),
        ) => Some(Refusal::BadRequest),
        (ErrorSource::Downstream, ReadTimedout) => Some(Refusal::RequestTimeout),
        (ErrorSource::Downstream, _) => None,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Refusal::Internal),
    }
}
