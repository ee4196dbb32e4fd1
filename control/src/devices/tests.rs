//! Who is let in, by the ends of pipes that say which node of a tailnet they are.

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Handle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use weir_config::{AppName, Desired, Moment, Snapshot};

use super::*;
use crate::{observed::Observed, state_dir::StateDir};

/// Devices of which no app calls another.
#[derive(Debug)]
struct NoCalls;

impl Calls for NoCalls {
    fn carry(&self, _: Box<dyn Duplex>, _: SocketAddr, _: AppName) {}
}

async fn gate(dir: &std::path::Path) -> Arc<Gatekeeper> {
    let base = "weir.test".parse().unwrap();
    let store = Store::open(&dir.join("weir.db"), &base).await.unwrap();
    let authority = DeviceAuthority::open(&StateDir::open(dir).unwrap()).unwrap();
    let observed = Observed::new(Arc::new(Snapshot::default()), Moment(1));
    let (_, world) = watch::channel(Arc::new(World::new(Desired::default(), observed)));
    let connected = Devices::new(Handle::current());
    let gate = Gatekeeper::new(store, world, authority, connected, Arc::new(NoCalls), None);
    Arc::new(gate.await.unwrap())
}

/// A connection from a node, as far as TLS; what becomes of it at the gate.
async fn come(
    gate: &Arc<Gatekeeper>,
    node: Option<&str>,
    shown: Option<(&str, &KeyPair)>,
) -> (TlsStream<DuplexStream>, tokio::task::JoinHandle<io::Result<()>>) {
    let (device, stream) = duplex(64 << 10);
    let from = SocketAddr::from(([100, 64, 0, 1], 1));
    let arrived = Arrived { stream: Box::new(stream), from, node: node.map(str::to_owned) };
    let taken = tokio::spawn({
        let gate = gate.clone();
        async move { gate.take_in(arrived).await }
    });
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(gate.authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from("control.weir.internal").unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, device).await.unwrap();
    (connected, taken)
}

async fn enrol(gate: &Arc<Gatekeeper>, name: &str, node: Option<&str>, key: &KeyPair) -> Enrolled {
    let expires_at = unix_millis() + 60_000;
    let invite = Invite { name: None, labels: Default::default(), expires_at };
    let token = gate.invite(&invite).await.unwrap();
    let token = token.split_once('.').unwrap().1.to_owned();
    let request = CertificateParams::new([]).unwrap().serialize_request(key).unwrap();
    let request = request.pem().unwrap();
    let enrol = Enrol { token, name: name.to_owned(), request, about: About::default() };
    let body = serde_json::to_string(&enrol).unwrap();
    let (mut stream, _taken) = come(gate, node, None).await;
    let head = format!("POST /enrol HTTP/1.1\r\nHost: c\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    // It may end without a last word of TLS.
    let _ = stream.read_to_string(&mut answer).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn a_device_of_a_tailnet_comes_by_its_own_node_alone() {
    let dir = tempfile::tempdir().unwrap();
    let gate = gate(dir.path()).await;
    for (name, enrolled_by, comes_by, is_taken) in [
        ("bound", Some("n1"), Some("n1"), true),
        ("stolen", Some("n1"), Some("n2"), false),
        ("outside", Some("n1"), None, false),
        ("free", None, None, true),
        ("moved", None, Some("n1"), true),
    ] {
        let key = KeyPair::generate().unwrap();
        let enrolled = enrol(&gate, name, enrolled_by, &key).await;
        let (mut stream, taken) = come(&gate, comes_by, Some((&enrolled.certificate, &key))).await;
        // Whoever is taken in is asked at once, by HTTP/2; whoever is not hears nothing.
        let mut first = [0; 3];
        let asked = timeout(Duration::from_secs(10), stream.read_exact(&mut first)).await.unwrap();
        assert_eq!(asked.is_ok(), is_taken, "{name}");
        if is_taken {
            assert_eq!(&first, b"PRI", "{name}");
        } else {
            let refused = taken.await.unwrap().unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{name}");
        }
    }
}
