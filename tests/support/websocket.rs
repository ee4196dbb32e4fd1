//! A WebSocket client of a few lines: a handshake, and text frames back and forth (RFC 6455).

use std::{fs, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{BASE, Weir, provider};

pub struct WebSocket(TlsStream<TcpStream>);

impl WebSocket {
    /// Opens `/ws` of an app; panics unless the answer is 101.
    pub async fn open(weir: &Weir, app: &str) -> Self {
        provider();
        let mut roots = RootCertStore::empty();
        let pem = fs::read(weir.state.join("ca.pem")).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let host = format!("{app}.{BASE}");
        let tcp = TcpStream::connect(weir.https).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut tls = connector.connect(host.clone().try_into().unwrap(), tcp).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tls.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        // The key of RFC 6455 section 1.3 and the answer to it.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self(tls)
    }

    /// Sends a short text and returns the text that comes back.
    pub async fn echo(&mut self, text: &str) -> String {
        assert!(text.len() < 126, "short texts only");
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x81, 0x80 | text.len() as u8];
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).await.unwrap();
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.unwrap();
        assert_eq!(head[0], 0x81, "a whole text frame");
        let mut text = vec![0; usize::from(head[1] & 0x7f)];
        self.0.read_exact(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    }
}
