//! Pebble, Let's Encrypt's authority for tests, and a name server that knows every name.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::{Weir, provider, wait_for};

/// A running Pebble. It is killed when it is dropped.
pub struct Pebble {
    child: Child,
    command: Command,
    _dir: tempfile::TempDir,
    /// What its own listeners show.
    own: String,
    pub directory: String,
    pub origin: String,
    management: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Pebble {
    /// One that looks for proofs at this Weir, whatever the name, and for everything of DNS at `dns`.
    pub async fn start(weir: &Weir, dns: SocketAddr, settings: &[(&str, &str)]) -> Self {
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
            "httpPort": weir.http.port(),
            "tlsPort": weir.https.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let envs: HashMap<_, _> = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")]
            .into_iter()
            .chain(settings.iter().copied())
            .collect();
        let mut command = Command::new("pebble");
        command
            .args(["-config", &dir.path().join("config.json").display().to_string()])
            .args(["-dnsserver", &dns.to_string(), "-strict"])
            .envs(envs)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let (child, log) = run(&mut command);
        let pebble = Self {
            child,
            command,
            _dir: dir,
            own,
            directory: format!("https://127.0.0.1:{api}/dir"),
            origin: format!("https://127.0.0.1:{api}"),
            management: format!("https://127.0.0.1:{management}"),
            log,
        };
        pebble.answers().await;
        pebble
    }

    async fn answers(&self) {
        wait_for("Pebble", async || self.client().get(&self.directory).send().await.ok()).await;
    }

    /// Ends it and starts it again: it has forgotten everything.
    pub async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.log) = run(&mut self.command);
        self.answers().await;
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

/// Starts it, with what it says.
fn run(command: &mut Command) -> (Child, Arc<Mutex<Vec<String>>>) {
    let mut child = command.spawn().expect("pebble is not installed; run scripts/setup test");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let log = Arc::new(Mutex::new(Vec::new()));
    thread::spawn({
        let log = log.clone();
        move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line))
    });
    (child, log)
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

/// Types of records (RFC 1035, 3.2.2).
pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const TXT: u16 = 16;
/// This machine, as an address record has it.
pub const HERE: [u8; 4] = [127, 0, 0, 1];

/// A name server for which every name has this machine's address and no other record.
pub fn every_name_is_here() -> SocketAddr {
    name_server(|_, rtype| if rtype == A { vec![HERE.to_vec()] } else { Vec::new() })
}

/// A name server that has these records of a name and a type. It ends with the process.
pub fn name_server(records: impl Fn(&str, u16) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let Some(end) = question_end(&query[..length]) else { continue };
            let rtype = [query[end - 4], query[end - 3]];
            let found = records(&name_of(&query), u16::from_be_bytes(rtype));
            let mut answer = query[..end].to_vec();
            // An authoritative answer without EDNS (RFC 1035, 4.1.1).
            answer[2..4].copy_from_slice(&[0x84 | (query[2] & 1), 0]);
            answer[6..12].copy_from_slice(&[0, found.len() as u8, 0, 0, 0, 0]);
            for data in found {
                // The name that was asked for, of the Internet, for a second.
                answer.extend([0xc0, 12, rtype[0], rtype[1], 0, 1, 0, 0, 0, 1]);
                answer.extend((data.len() as u16).to_be_bytes());
                answer.extend(data);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

/// A name as it goes over the wire.
pub fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(text);
    labels.chain([0]).collect()
}

/// One string of a TXT record.
pub fn text(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// The texts that a name server has at a name.
pub fn texts_at(server: SocketAddr, name: &str) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let header = [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let question = [&header[..], &wire(name), &[0, TXT as u8, 0, 1]].concat();
    socket.send_to(&question, server).unwrap();
    let mut answer = [0; 1232];
    let length = socket.recv(&mut answer).unwrap();
    let (mut rest, mut texts) = (&answer[question.len()..length], Vec::new());
    for _ in 0..answer[7] {
        // Behind the name, which is a pointer to the question, type, class and TTL.
        let end = 12 + usize::from(rest[11]);
        texts.push(rest[12..end].to_vec());
        rest = &rest[end..];
    }
    texts
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
