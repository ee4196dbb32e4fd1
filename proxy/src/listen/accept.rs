//! From a connection that came to the requests on it.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use pingora::{apps::ServerApp as _, proxy::HttpProxy};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use weir_config::{AppName, ProxySettings};

use super::{
    connections::{Connections, Dropped, Open, Port},
    proxy_protocol::{self, Ends},
    stream::ClientStream,
    transport::Transport,
};
use crate::{
    access_log::{self, AccessLog},
    connection::{Connection, Tls},
    gateway::Gateway,
    tls::{AcceptError, Accepted, Acceptor},
    upstream::Tunnel,
};

/// What all connections have in common.
pub(super) struct Server {
    pub(super) proxy: Arc<HttpProxy<Gateway>>,
    pub(super) acceptor: Acceptor,
    pub(super) settings: ProxySettings,
    pub(super) access_log: Option<AccessLog>,
    pub(super) connections: Arc<Connections>,
    /// Turns true when clients are told to go.
    pub(super) closing: watch::Receiver<bool>,
    /// Turns true when no more connections are accepted.
    pub(super) stopping: watch::Receiver<bool>,
}

/// When there is no file descriptor left, connections wait in the kernel until some is given back.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(10);

impl Server {
    /// Accepts connections until `stop` turns true.
    pub(super) async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        port: Port,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut is_exhausted = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // An error means that the sender is gone, which is a stop as well.
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    is_exhausted = false;
                    // Over the limit, it is closed at once: a client had better hear it than wait.
                    if let Some(open) = self.connections.admit(port) {
                        tokio::spawn(self.clone().serve(tcp, peer, port, open));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Once, and not a hundred times a second.
                    if !std::mem::replace(&mut is_exhausted, true) {
                        tracing::warn!(%error, "no connection can be accepted at the moment");
                    }
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    /// Carries one connection from its first byte to its last.
    async fn serve(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr, port: Port, open: Open) {
        if let Some((transport, connection)) = self.establish(tcp, peer, port, open).await {
            self.carry(transport, connection).await;
        }
    }

    /// Carries what an app on a device asks of others, from the first byte to the last.
    pub(super) async fn serve_app(
        self: Arc<Self>,
        stream: Tunnel,
        from: SocketAddr,
        caller: AppName,
    ) {
        if *self.stopping.borrow() {
            return;
        }
        if let Some(open) = self.connections.admit(Port::Private) {
            let connection = Connection::by_app(caller, from, open);
            self.carry(Transport::Tunnel(stream), connection).await;
        }
    }

    async fn carry(&self, transport: Transport, connection: Connection) {
        let connection = Arc::new(connection);
        let stream = match ClientStream::new(transport, connection.clone(), &self.settings) {
            Ok(stream) => stream,
            Err(error) => return tracing::error!(%error, "a connection cannot be carried"),
        };
        // A client that comes while clients are told to go is told with those who come last, not
        // before it has asked for anything.
        let mut closing = self.closing.clone();
        closing.mark_unchanged();
        let mut requests = pin!(self.proxy.process_new(Box::new(stream), &closing));
        let mut farewell = pin!(self.farewell(&connection));
        poll_fn(|cx| {
            if requests.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            // Only then is there anything to wait for, and under load there never is.
            if connection.is_silent() { farewell.as_mut().poll(cx) } else { Poll::Pending }
        })
        .await;
        if let (Some(log), Some(status)) = (&self.access_log, connection.unread()) {
            access_log::record_unread(log, &connection, status);
        }
    }

    /// Returns when a connection on which nothing comes is to be closed, because of a stop. What
    /// has been on its way for longer than the lame duck lasts is lost: HTTP/1.1 has no word by
    /// which a server could ask first. Silence from before clients were told to go does not count: a
    /// client whose other connections close turns to one that it has not used for long.
    async fn farewell(&self, connection: &Connection) {
        // An error means that the sender is gone, which is a stop as well.
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
        let told = Instant::now();
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
        let lame_duck = self.settings.lame_duck;
        while let Some(rest) = lame_duck
            .checked_sub(connection.silent_for().unwrap_or_default().min(told.elapsed()))
            .filter(|rest| !rest.is_zero())
        {
            sleep(rest).await;
        }
    }

    /// Learns who is there, and makes the connection ready for requests. Whoever takes longer than
    /// allowed is closed without a word.
    async fn establish(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        port: Port,
        mut open: Open,
    ) -> Option<(Transport, Connection)> {
        let greet = self.greet(tcp, peer, port, &mut open);
        let (transport, ends, tls) = match timeout(self.settings.handshake_timeout, greet).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(Stranger::Refused)) => return None,
            Ok(Err(Stranger::Failed(reason, error))) => {
                open.count(reason);
                tracing::debug!(%peer, %error, "a connection failed before its first request");
                return None;
            }
            Err(_) => {
                open.count(Dropped::HandshakeTimeout);
                return None;
            }
        };
        let trusted = self.settings.trusted_proxies.clone();
        Some((transport, Connection::new(ends.client, ends.local, tls, trusted, open)))
    }

    async fn greet(
        &self,
        mut tcp: TcpStream,
        peer: SocketAddr,
        port: Port,
        open: &mut Open,
    ) -> Result<(Transport, Ends, Option<Tls>), Stranger> {
        let announced = if self.settings.proxy_protocol.contain(peer.ip()) {
            let read = proxy_protocol::read(&mut tcp).await;
            read.map_err(|error| Stranger::Failed(Dropped::BadProxyHeader, error))?
        } else {
            None
        };
        let ends = match announced {
            Some(ends) => ends,
            None => Ends { client: peer, local: tcp.local_addr().map_err(Stranger::gone)? },
        };
        if self.is_counted(peer.ip(), announced) && !open.is_within_limit_of(ends.client.ip()) {
            return Err(Stranger::Refused);
        }
        if port == Port::Http {
            return Ok((Transport::Tcp(tcp.into()), ends, None));
        }
        let accepted = self.acceptor.accept(tcp.into(), ends.client.ip().to_canonical()).await;
        let Accepted { stream, server_name, client_auth, client_certificate } =
            accepted.map_err(|error| match error {
                AcceptError::Challenge => Stranger::Refused,
                error => Stranger::Failed(Dropped::Handshake, io::Error::other(error)),
            })?;
        let session = stream.get_ref().1;
        let cipher = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let tls = Tls {
            server_name,
            version: session.protocol_version().and_then(|v| v.as_str()).unwrap_or_default(),
            cipher: cipher.unwrap_or_default(),
            client_auth,
            client_certificate,
        };
        Ok((Transport::Tls(Box::new(stream)), ends, Some(tls)))
    }

    /// One address of a proxy stands for many clients.
    fn is_counted(&self, peer: IpAddr, announced: Option<Ends>) -> bool {
        let settings = &self.settings;
        match announced {
            Some(ends) => !settings.trusted_proxies.contain(ends.client.ip()),
            None => {
                !settings.proxy_protocol.contain(peer) && !settings.trusted_proxies.contain(peer)
            }
        }
    }
}

/// Why a connection is not carried.
enum Stranger {
    /// Counted where it was refused, or served with its handshake.
    Refused,
    Failed(Dropped, io::Error),
}

impl Stranger {
    fn gone(error: io::Error) -> Self {
        Self::Failed(Dropped::Handshake, error)
    }
}
