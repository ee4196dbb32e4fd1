//! An authority that fails as it is told to: a Pebble behind a relay that answers some requests
//! itself. Only what Pebble cannot be made to do is its own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer},
};

use super::pebble::Pebble;

/// Status, headers and body.
type Answer = (u16, Vec<(String, String)>, Vec<u8>);

/// What is answered instead of Pebble, to the next so many requests for a path.
#[derive(Clone, Debug)]
pub struct Fault {
    pub path: &'static str,
    pub times: usize,
    pub status: u16,
    /// Beside the content type.
    pub headers: Vec<(&'static str, String)>,
    pub content_type: &'static str,
    pub body: String,
}

impl Fault {
    pub fn problem(path: &'static str, status: u16, kind: &str, detail: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        let body = json!({"type": kind, "detail": detail, "status": status}).to_string();
        let content_type = "application/problem+json";
        Self { path, times: 1, status, headers: Vec::new(), content_type, body }
    }

    pub fn page(path: &'static str, status: u16, body: &str) -> Self {
        let (headers, body) = (Vec::new(), body.to_owned());
        Self { path, times: 1, status, headers, content_type: "text/html", body }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

#[derive(Clone)]
pub struct FaultyCa {
    address: SocketAddr,
    own: String,
    faults: Arc<Mutex<Vec<Fault>>>,
    /// What is answered to questions for renewal information; none if it knows of none.
    pub window: Arc<Mutex<Option<Value>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FaultyCa {
    pub async fn before(pebble: &Pebble) -> Self {
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned()];
        let own = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], der)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            own: own.pem(),
            faults: Arc::default(),
            window: Arc::default(),
            asked: Arc::default(),
        };
        let (server, tls) = (this.clone(), TlsAcceptor::from(Arc::new(tls)));
        let (client, pebble) = (pebble.client(), pebble.origin.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, tls) = (server.clone(), tls.clone());
                let (client, pebble) = (client.clone(), pebble.clone());
                // A client that goes away in the middle ends its connection, nothing else.
                tokio::spawn(async move {
                    let stream = tls.accept(stream).await.ok()?;
                    server.serve(BufReader::new(stream), client, &pebble).await
                });
            }
        });
        this
    }

    pub fn issuer(&self, name: &str) -> Value {
        let directory = format!("https://{}/dir", self.address);
        let spec = json!({"directory": directory, "terms_agreed": true, "roots": self.own});
        json!({"kind": "Issuer", "name": name, "spec": spec})
    }

    pub fn fail(&self, fault: Fault) {
        self.faults.lock().unwrap().push(fault);
    }

    /// How often a path was asked for that contains this.
    pub fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.contains(path)).count()
    }

    async fn serve(
        &self,
        mut stream: BufReader<impl AsyncReadExt + AsyncWriteExt + Unpin>,
        client: reqwest::Client,
        pebble: &str,
    ) -> Option<()> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok()?;
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let mut first = head.first()?.split(' ');
        let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
        let header = |name: &str| {
            let of = |line: &String| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            head.iter().find_map(of)
        };
        let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        self.asked.lock().unwrap().push(path.clone());
        let (status, headers, body) = match self.answer(&path) {
            Some(answer) => answer,
            None => {
                let request = client.request(method.parse().ok()?, format!("{pebble}{path}"));
                let request = request.header("host", self.address.to_string());
                let request = request.header("user-agent", "relay");
                let request = match header("content-type") {
                    Some(content_type) => request.header("content-type", content_type),
                    None => request,
                };
                let answer = request.body(body).send().await.ok()?;
                let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
                let kept = headers.iter().filter(|(name, _)| {
                    !["content-length", "transfer-encoding", "connection"].contains(&name.as_str())
                });
                let kept = kept.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()));
                let (kept, body) = (kept.collect(), answer.bytes().await.ok()?.to_vec());
                (status, kept, self.with_renewal_info(&path, body))
            }
        };
        let mut answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
        for (name, value) in headers {
            answer += &format!("{name}: {value}\r\n");
        }
        if method != "HEAD" {
            answer += &format!("Content-Length: {}\r\n", body.len());
        }
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
        stream.flush().await.ok()?;
        stream.shutdown().await.ok()
    }

    fn answer(&self, path: &str) -> Option<Answer> {
        if let Some(window) = &*self.window.lock().unwrap()
            && path.starts_with("/renewal-info/")
        {
            let headers = vec![("Retry-After".to_owned(), "1".to_owned())];
            let window = json!({"suggestedWindow": window});
            return Some((200, headers, window.to_string().into_bytes()));
        }
        let mut faults = self.faults.lock().unwrap();
        let fault = faults.iter_mut().find(|f| f.times > 0 && path.contains(f.path))?;
        fault.times -= 1;
        let own = fault.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let content_type = ("Content-Type".to_owned(), fault.content_type.to_owned());
        let headers = own.chain([content_type]).collect();
        Some((fault.status, headers, fault.body.clone().into_bytes()))
    }

    /// A directory says where to ask for renewal information (RFC 9773, 3).
    fn with_renewal_info(&self, path: &str, body: Vec<u8>) -> Vec<u8> {
        if path != "/dir" || self.window.lock().unwrap().is_none() {
            return body;
        }
        let mut directory: Value = serde_json::from_slice(&body).unwrap();
        directory["renewalInfo"] = json!(format!("https://{}/renewal-info", self.address));
        directory.to_string().into_bytes()
    }
}
