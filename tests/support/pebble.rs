//! Pebble, Let's Encrypt's authority for tests, and a name server that knows every name.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::{provider, wait_for};

/// A running Pebble. It is killed when it is dropped.
pub struct Pebble {
    child: Child,
    _dir: tempfile::TempDir,
    /// What its own listeners show.
    own: String,
    pub directory: String,
    pub origin: String,
    management: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Pebble {
    /// One that asks for HTTP-01 at this port of this machine, whatever the name, and for everything
    /// of DNS at `dns`.
    pub async fn start(http_port: u16, dns: SocketAddr, settings: &[(&str, &str)]) -> Self {
        provider();
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
        fs::write(dir.path().join("own.pem"), &own).unwrap();
        fs::write(dir.path().join("own.key"), key.serialize_pem()).unwrap();
        let [api, management] = [free_port(), free_port()];
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{api}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": dir.path().join("own.pem"),
            "privateKey": dir.path().join("own.key"),
            "httpPort": http_port,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let envs: HashMap<_, _> = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")]
            .into_iter()
            .chain(settings.iter().copied())
            .collect();
        let mut child = Command::new("pebble")
            .args(["-config", &dir.path().join("config.json").display().to_string()])
            .args(["-dnsserver", &dns.to_string(), "-strict"])
            .envs(envs)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("pebble is not installed; run scripts/setup test");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let log = log.clone();
            move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line))
        });
        let pebble = Self {
            child,
            _dir: dir,
            own,
            directory: format!("https://127.0.0.1:{api}/dir"),
            origin: format!("https://127.0.0.1:{api}"),
            management: format!("https://127.0.0.1:{management}"),
            log,
        };
        wait_for("Pebble", async || pebble.client().get(&pebble.directory).send().await.ok()).await;
        pebble
    }

    /// What an operator writes to have certificates from it.
    pub fn issuer(&self, name: &str) -> serde_json::Value {
        let spec = json!({
            "directory": self.directory,
            "emails": ["ops@example.test"],
            "terms_agreed": true,
            "roots": self.own,
        });
        json!({"kind": "Issuer", "name": name, "spec": spec})
    }

    /// The root of what it issues, as PEM.
    pub async fn root(&self) -> String {
        let url = format!("{}/roots/0", self.management);
        self.client().get(url).send().await.unwrap().text().await.unwrap()
    }

    /// How many lines of its log say this.
    pub fn count(&self, what: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(what)).count()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub fn client(&self) -> reqwest::Client {
        let own = reqwest::Certificate::from_pem(self.own.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([own]).no_proxy();
        // Whose `Host` can be another than where it is sent.
        client.http1_only().build().unwrap()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Taken by nobody a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A name server for which every name has this machine's address and no other record.
pub fn every_name_is_here() -> SocketAddr {
    name_server(|_| true)
}

/// A name server that says so of these names only, and of the others that they have no record. It
/// ends with the process.
pub fn name_server(is_here: impl Fn(&str) -> bool + Send + 'static) -> SocketAddr {
    const A: [u8; 2] = [0, 1];
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let Some(end) = question_end(&query[..length]) else { continue };
            let is_a = query[end - 4..end - 2] == A && is_here(&name_of(&query));
            let mut answer = query[..end].to_vec();
            // An authoritative answer, with one record or none, and no EDNS (RFC 1035, 4.1.1).
            answer[2..4].copy_from_slice(&[0x84 | (query[2] & 1), 0]);
            answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

/// The name that a query asks for.
fn name_of(query: &[u8]) -> String {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] > 0 {
        let next = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..next]).to_lowercase());
        at = next;
    }
    labels.join(".")
}

/// Where the first question of a query ends.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*query.get(at)?) {
            0 => return (query.len() >= at + 5).then_some(at + 5),
            label => at += label + 1,
        }
    }
}
