//! A stand-in for a CDN: an HTTPS server at an address of its own on the loopback, which fails as
//! it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer},
};

/// How it treats who comes. A change meets connections that are open, too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Well,
    /// Nobody listens.
    Refuses,
    /// Connections are reset once they are made.
    Resets,
    /// Connections are made, and nothing is ever answered.
    Silent,
    /// So many of a hundred answers are 503.
    Fails(usize),
    /// Each answer takes so much longer.
    Slow(Duration),
}

/// Whom stand-ins have their certificates of.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    fn tls(&self, hostname: &str) -> TlsAcceptor {
        super::provider();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([hostname.to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.0).unwrap().der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

#[derive(Clone)]
pub struct Cdn {
    pub name: &'static str,
    pub address: SocketAddr,
    mood: Arc<watch::Sender<Mood>>,
    requests: Arc<AtomicUsize>,
}

impl Cdn {
    /// One that serves a host name at an address, on a port of the system's choice.
    pub async fn start(
        name: &'static str,
        ip: [u8; 4],
        hostname: &str,
        authority: &Authority,
    ) -> Self {
        let listener = TcpListener::bind((std::net::IpAddr::from(ip), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(watch::Sender::new(Mood::Well));
        let this = Self { name, address, mood, requests: Arc::default() };
        tokio::spawn(this.clone().listen(listener, authority.tls(hostname)));
        this
    }

    /// Has it treat everybody so from now on. When this returns, it does.
    pub async fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
        let listens = mood != Mood::Refuses;
        super::wait_for("the stand-in to change", async || {
            (TcpStream::connect(self.address).await.is_ok() == listens).then_some(())
        })
        .await;
    }

    /// Requests that were answered well.
    pub fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }

    async fn listen(self, first: TcpListener, tls: TlsAcceptor) {
        let mut mood = self.mood.subscribe();
        let mut listener = Some(first);
        loop {
            if *mood.borrow_and_update() == Mood::Refuses {
                drop(listener.take());
                if mood.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let accepts = match &listener {
                Some(listener) => listener,
                None => {
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.set_reuseaddr(true).unwrap();
                    socket.bind(self.address).unwrap();
                    listener.insert(socket.listen(1024).unwrap())
                }
            };
            tokio::select! {
                changed = mood.changed() => if changed.is_err() { return },
                accepted = accepts.accept() => {
                    let Ok((tcp, _)) = accepted else { continue };
                    tokio::spawn(self.clone().meet(tcp, tls.clone()));
                }
            }
        }
    }

    async fn meet(self, tcp: TcpStream, tls: TlsAcceptor) -> Option<()> {
        let mut mood = self.mood.subscribe();
        let now = *mood.borrow_and_update();
        match now {
            Mood::Resets => return tcp.set_zero_linger().ok(),
            Mood::Silent => {
                let silent = |mood: &Mood| *mood == Mood::Silent;
                let _ = mood.wait_for(|mood| !silent(mood)).await;
                return None;
            }
            _ => {}
        }
        let stream = tls.accept(tcp).await.ok()?;
        let serving = self.serve(BufReader::new(stream));
        let ends = async {
            let ends = |mood: &Mood| matches!(mood, Mood::Refuses | Mood::Resets);
            let _ = mood.wait_for(ends).await;
        };
        tokio::select! {
            served = serving => served,
            () = ends => None,
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: BufReader<S>,
    ) -> Option<()> {
        for n in 0.. {
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
            }
            let mood = *self.mood.borrow();
            let status = match mood {
                Mood::Silent => std::future::pending().await,
                // Each connection begins elsewhere.
                Mood::Fails(percent) if (n * 37 + rand::random_range(0..100)) % 100 < percent => {
                    "503 Service Unavailable"
                }
                Mood::Slow(time) => {
                    sleep(time).await;
                    "200 OK"
                }
                _ => "200 OK",
            };
            self.requests.fetch_add(usize::from(status == "200 OK"), Relaxed);
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", self.name.len());
            stream.write_all(format!("{head}{}", self.name).as_bytes()).await.ok()?;
        }
        None
    }
}
