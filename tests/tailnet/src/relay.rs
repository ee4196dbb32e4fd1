//! The relay (DERP): hands packets from one device to another, which it knows by their keys.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use crypto_box::{
    SalsaBox, SecretKey,
    aead::{Aead, AeadCore, OsRng},
};
use futures::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue, UPGRADE},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::{FramedRead, FramedWrite};
use ts_derp::frame::{
    ClientInfo, Codec, FrameType, Magic, PROTOCOL_VERSION, Ping, Pong, RawFrame, RecvPacket,
    SendPacket, ServerInfo, ServerKey,
};
use ts_keys::{DerpServerPublicKey, NodePublicKey};

/// Packets that wait for a device; those that find no room are lost, as on any line.
const QUEUE: usize = 1024;

struct Relay {
    secret: SecretKey,
    devices: Mutex<HashMap<NodePublicKey, mpsc::Sender<Packet>>>,
}

enum Packet {
    From(NodePublicKey, Vec<u8>),
    Pong(Pong),
}

pub(crate) async fn serve(listener: TcpListener) {
    let relay =
        Arc::new(Relay { secret: SecretKey::generate(&mut OsRng), devices: Mutex::default() });
    let acceptor = acceptor();
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let (relay, acceptor) = (relay.clone(), acceptor.clone());
        connections.spawn(async move {
            let Ok(connection) = acceptor.accept(connection).await else { return };
            let service = service_fn(move |request| {
                let relay = relay.clone();
                async move { Ok::<_, Infallible>(relay.answer(request)) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service)
                .with_upgrades();
            // A device may go at any time.
            drop(served.await);
        });
    }
}

#[expect(clippy::expect_used, reason = "what is made here is right or the test cannot be run")]
fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["relay.tailnet.test".to_owned()]);
    let made = made.expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}

impl Relay {
    fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::default());
        match request.uri().path() {
            "/derp/latency-check" => {}
            "/derp" => {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let Ok(connection) = upgrade.await else { return };
                    // Ends when the device goes, which is no failure.
                    drop(self.attend(TokioIo::new(connection)).await);
                });
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("DERP"));
            }
            _ => *answer.status_mut() = StatusCode::NOT_FOUND,
        }
        answer
    }

    async fn attend(&self, connection: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let (read, write) = tokio::io::split(connection);
        let mut frames = FramedRead::new(read, Codec);
        let mut out = FramedWrite::new(write, Codec);
        let public: [u8; 32] = *self.secret.public_key().as_bytes();
        let key = ServerKey { magic: Magic::MAGIC, key: DerpServerPublicKey::from_bytes(public) };
        out.send(RawFrame::from_body(&key, 0).map_err(io::Error::other)?).await?;
        let first = frames.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
        let (info, _) = first.get().as_type::<ClientInfo>().ok_or(io::ErrorKind::InvalidData)?;
        let device = info.key;
        let (info, sealed) = self.info(device)?;
        let frame = RawFrame::from_body(&info, sealed.len()).map_err(io::Error::other)?;
        out.send((frame, sealed.as_slice())).await?;

        let (sender, mut packets) = mpsc::channel(QUEUE);
        self.devices().insert(device, sender.clone());
        loop {
            tokio::select! {
                packet = packets.recv() => match packet {
                    Some(Packet::From(src, packet)) => {
                        let body = RecvPacket { src };
                        let frame = RawFrame::from_body(&body, packet.len());
                        out.send((frame.map_err(io::Error::other)?, packet.as_slice())).await?;
                    }
                    Some(Packet::Pong(pong)) => {
                        out.send(RawFrame::from_body(&pong, 0).map_err(io::Error::other)?).await?;
                    }
                    None => return Ok(()),
                },
                frame = frames.next() => {
                    let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)??;
                    self.take(device, frame.get(), &sender);
                }
            }
        }
    }

    fn take(&self, device: NodePublicKey, frame: &RawFrame<'_>, back: &mpsc::Sender<Packet>) {
        match frame.header.typ {
            FrameType::SendPacket => {
                let Some((to, packet)) = frame.as_type::<SendPacket>() else { return };
                if let Some(to) = self.devices().get(&to.dest) {
                    drop(to.try_send(Packet::From(device, packet.to_vec())));
                }
            }
            FrameType::Ping => {
                let Some((ping, _)) = frame.as_type::<Ping>() else { return };
                drop(back.try_send(Packet::Pong((*ping).into())));
            }
            _ => {}
        }
    }

    /// What the relay says of itself, sealed for a device.
    fn info(&self, device: NodePublicKey) -> io::Result<(ServerInfo, Vec<u8>)> {
        let sealing = SalsaBox::new(&device.to_crypto_box(), &self.secret);
        let nonce = SalsaBox::generate_nonce(&mut OsRng);
        let said = format!(r#"{{"version":{PROTOCOL_VERSION}}}"#);
        let sealed = sealing.encrypt(&nonce, said.as_bytes()).map_err(io::Error::other)?;
        Ok((ServerInfo { nonce: nonce.into() }, sealed))
    }

    fn devices(&self) -> std::sync::MutexGuard<'_, HashMap<NodePublicKey, mpsc::Sender<Packet>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
