//! Other servers with the same zones.

use std::{
    fmt::Write,
    fs,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use weir_config::RecordType;

use crate::{
    harness::{Answer, question},
    random_zone::RandomZone,
    servers::{Process, command, free_port},
};

const START: Duration = Duration::from_secs(30);

/// One of them.
pub(crate) struct Peer {
    socket: UdpSocket,
    pub(crate) name: &'static str,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Peer {
    pub(crate) fn nsd(zones: &[RandomZone]) -> Self {
        Self::start("nsd", zones, |dir, port| {
            let mut config = format!(
                "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n zonesdir: \"{dir}\"\n \
                 database: \"\"\n pidfile: \"{dir}/pid\"\n xfrdfile: \"{dir}/xfrd\"\n \
                 zonelistfile: \"{dir}/list\"\n server-count: 1\n rrl-ratelimit: 0\n \
                 xfrdir: \"{dir}\"\n\
                 remote-control:\n control-enable: no\n"
            );
            for apex in zones.iter().map(|zone| &zone.apex) {
                let _ = write!(config, "zone:\n name: {apex}\n zonefile: {apex}.zone\n");
            }
            (config, vec!["-d".to_owned(), "-c".to_owned(), format!("{dir}/config")])
        })
    }

    pub(crate) fn knot(zones: &[RandomZone]) -> Self {
        Self::start("knotd", zones, |dir, port| {
            let mut config = format!(
                "server:\n  listen: 127.0.0.1@{port}\n  rundir: {dir}\n  udp-workers: 1\n  \
                 tcp-workers: 1\n  background-workers: 1\n\
                 database:\n  storage: {dir}/db\n\
                 template:\n  - id: default\n    storage: {dir}\n    zonefile-sync: -1\n    \
                 zonefile-load: whole\n    journal-content: none\nzone:\n"
            );
            for apex in zones.iter().map(|zone| &zone.apex) {
                let _ = write!(config, "  - domain: {apex}\n    file: {apex}.zone\n");
            }
            (config, vec!["-c".to_owned(), format!("{dir}/config")])
        })
    }

    pub(crate) fn powerdns(zones: &[RandomZone]) -> Self {
        Self::start("pdns_server", zones, |dir, port| {
            let zones =
                zones.iter().map(|zone| &zone.apex).fold(String::new(), |mut text, apex| {
                    let file = format!("{dir}/{apex}.zone");
                    let _ = writeln!(text, "zone \"{apex}\" {{ type master; file \"{file}\"; }};");
                    text
                });
            fs::write(format!("{dir}/named.conf"), zones).unwrap();
            let config = format!(
                "launch=bind\nbind-config={dir}/named.conf\nlocal-address=127.0.0.1\n\
                 local-port={port}\ndaemon=no\nguardian=no\nsocket-dir={dir}\ncache-ttl=0\n\
                 query-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\n\
                 dname-processing=yes\nreceiver-threads=1\ndistributor-threads=1\nmaster=no\n"
            );
            fs::write(format!("{dir}/pdns.conf"), config).unwrap();
            (String::new(), vec![format!("--config-dir={dir}")])
        })
    }

    pub(crate) fn bind(zones: &[RandomZone]) -> Self {
        Self::start("named", zones, |dir, port| {
            let mut config = format!(
                "options {{\n directory \"{dir}\"; pid-file \"{dir}/pid\"; listen-on-v6 {{ none; }};\n \
                 session-keyfile \"{dir}/key\"; listen-on port {port} {{ 127.0.0.1; }};\n \
                 recursion no; minimal-responses yes; dnssec-validation no; notify no;\n \
                 empty-zones-enable no; check-integrity no;\n}};\ncontrols {{ }};\n"
            );
            for apex in zones.iter().map(|zone| &zone.apex) {
                let zone = format!("type master; file \"{apex}.zone\"; check-names ignore;");
                let _ = writeln!(config, "zone \"{apex}\" {{ {zone} }};");
            }
            let arguments = ["-f", "-n", "1", "-c", &format!("{dir}/config")];
            (config, arguments.map(str::to_owned).into())
        })
    }

    fn start(
        program: &'static str,
        zones: &[RandomZone],
        configure: impl FnOnce(&str, u16) -> (String, Vec<String>),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for zone in zones {
            fs::write(dir.path().join(format!("{}.zone", zone.apex)), zone.text()).unwrap();
        }
        let port = free_port();
        let (config, arguments) = configure(&dir.path().display().to_string(), port);
        fs::write(dir.path().join("config"), config).unwrap();
        let process = Process::start(command(program).args(arguments));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let peer = Self { socket, name: program, _process: process, _dir: dir };
        let deadline = Instant::now() + START;
        for zone in zones {
            let message = question(&zone.apex, RecordType::SOA);
            while peer.try_ask(&message).is_none_or(|answer| answer.answer.is_empty()) {
                assert!(Instant::now() < deadline, "{program} does not serve {}", zone.text());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        peer
    }

    pub(crate) fn ask(&self, message: &[u8]) -> Answer {
        let deadline = Instant::now() + START;
        loop {
            match self.try_ask(message) {
                Some(answer) => return answer,
                None => assert!(Instant::now() < deadline, "{} is silent", self.name),
            }
        }
    }

    /// A late answer to an earlier question is not taken for this one's.
    fn try_ask(&self, message: &[u8]) -> Option<Answer> {
        self.socket.send(message).ok()?;
        let mut buffer = [0; 4096];
        let name = message[12..].iter().position(|byte| *byte == 0)?;
        let question = &message[12..12 + name + 5];
        loop {
            let len = self.socket.recv(&mut buffer).ok()?;
            if buffer[12..len].starts_with(question) {
                return Some(Answer::read(&buffer[..len]));
            }
        }
    }
}
