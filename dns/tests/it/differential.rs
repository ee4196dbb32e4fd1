//! Random zones and questions, answered beside NSD, Knot and PowerDNS.

use std::{
    fmt::Write,
    fs,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::op::ResponseCode;
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use weir_config::{DnsName, RecordType};

use crate::{
    harness::{Answer, Served, question},
    servers::{Process, command, free_port},
    zones::{Record, name, zone},
};

const START: Duration = Duration::from_secs(30);

/// `WEIR_DIFFERENTIAL_QUESTIONS` of them, from `WEIR_DIFFERENTIAL_SEED` on.
#[test]
fn whatever_two_of_three_other_servers_answer_is_answered() {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let count = number("WEIR_DIFFERENTIAL_QUESTIONS").unwrap_or(6000);
    let seed = number("WEIR_DIFFERENTIAL_SEED").unwrap_or_else(rand::random);
    println!("WEIR_DIFFERENTIAL_SEED={seed} WEIR_DIFFERENTIAL_QUESTIONS={count}");
    let mut random = SmallRng::seed_from_u64(seed);
    let zones: Vec<_> = (0..100).map(|i| Random::new(i, &mut random)).collect();
    let served = Served::start(zones.iter().map(|random| zone(&random.text())));
    let peers = [Peer::nsd(&zones), Peer::knot(&zones), Peer::powerdns(&zones)];
    let (mut compared, mut wrong) = (0, Vec::new());
    for i in 0..count {
        let of = &zones[i as usize % zones.len()];
        let (owner, rtype) = of.question(&mut random);
        let message = question(&owner, rtype);
        let ours = Seen::new(&served.ask_bytes(&message), &of.apex);
        let theirs = peers.each_ref().map(|peer| Seen::new(&peer.ask(&message), &of.apex));
        let alike = |one: &&Seen| theirs.iter().filter(|other| other == one).count() >= 2;
        let Some(majority) = theirs.iter().find(alike) else { continue };
        compared += 1;
        if ours != *majority {
            let text = of.text();
            wrong.push(format!("{owner} {rtype}:\n {ours:?}\n instead of\n {majority:?}\n{text}"));
        }
    }
    println!("{compared} of {count} questions have one answer of two of three");
    assert!(compared * 10 > count * 9, "{compared} of {count} are too few");
    assert!(wrong.is_empty(), "{} of {compared} differ; the first:\n{}", wrong.len(), wrong[0]);
}

/// What of an answer matters: beside an answer, what else servers tell is left out by ours.
#[derive(Debug, PartialEq)]
struct Seen {
    rcode: ResponseCode,
    authoritative: bool,
    answer: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

impl Seen {
    fn new(answer: &Answer, apex: &DnsName) -> Self {
        let is_positive = !answer.answer.is_empty();
        let is_needed =
            |r: &&Record| !(is_positive && r.rtype == RecordType::NS && r.owner == *apex);
        let sorted = |records: Vec<&Record>| {
            let mut records: Vec<_> = records.into_iter().cloned().collect();
            records.sort();
            records.dedup();
            records
        };
        let additional = if is_positive { vec![] } else { answer.additional.iter().collect() };
        Self {
            rcode: answer.rcode,
            authoritative: answer.authoritative,
            answer: sorted(answer.answer.iter().collect()),
            authority: sorted(answer.authority.iter().filter(is_needed).collect()),
            additional: sorted(additional),
        }
    }
}

/// A zone made by chance, as valid as servers ask for.
struct Random {
    apex: DnsName,
    records: Vec<(DnsName, RecordType, String)>,
}

const LABELS: [&str; 5] = ["a", "b", "c", "*", "ns"];

impl Random {
    fn new(i: usize, random: &mut SmallRng) -> Self {
        let apex = name(&format!("z{i}.test"));
        let soa = "ns.else.where. admin.else.where. 1 3600 600 86400 300";
        let records = vec![
            (apex.clone(), RecordType::SOA, soa.to_owned()),
            (apex.clone(), RecordType::NS, "ns.else.where.".to_owned()),
        ];
        let mut zone = Self { apex, records };
        for _ in 0..random.random_range(3..16) {
            zone.add(random);
        }
        zone
    }

    /// Adds a record or two, unless they would not go with those that are there.
    fn add(&mut self, random: &mut SmallRng) {
        let owner = self.name(random);
        let target = match random.random_range(0..5) {
            0 => name("out.else.where"),
            _ => self.name(random),
        };
        let has =
            |owner: &DnsName, rtype| self.records.iter().any(|(o, t, _)| o == owner && *t == rtype);
        let is_there = self.records.iter().any(|(o, _, _)| *o == owner);
        let is_above = self.records.iter().any(|(o, _, _)| o.is_at_or_below(&owner));
        let is_below =
            std::iter::successors(Some(owner.clone()), DnsName::parent).skip(1).any(|above| {
                has(&above, RecordType::DNAME) || above != self.apex && has(&above, RecordType::NS)
            });
        let is_alias = has(&owner, RecordType::CNAME) || has(&owner, RecordType::DNAME);
        let is_cut = owner != self.apex && has(&owner, RecordType::NS);
        if is_alias || is_below || is_cut {
            return;
        }
        let byte: u8 = random.random();
        match random.random_range(0..9) {
            0 if !is_there => self.records.push((owner, RecordType::CNAME, format!("{target}."))),
            1 if !is_above && !owner.is_wildcard() => {
                self.records.push((owner, RecordType::DNAME, format!("{target}.")));
            }
            2 | 3 if !is_there && !is_above && !owner.is_wildcard() => {
                let server = owner.child(b"ns").unwrap();
                self.records.push((owner.clone(), RecordType::NS, format!("{server}.")));
                self.records.push((server, RecordType::A, format!("192.0.2.{byte}")));
                if random.random() {
                    self.records.push((owner, RecordType::NS, "ns.else.where.".to_owned()));
                }
            }
            4 => self.records.push((owner, RecordType::MX, format!("10 {target}."))),
            5 => self.records.push((owner, RecordType::AAAA, format!("2001:db8::{byte:x}"))),
            6 => self.records.push((owner, RecordType::TXT, format!("\"text{byte}\""))),
            _ => self.records.push((owner, RecordType::A, format!("192.0.2.{byte}"))),
        }
    }

    fn name(&self, random: &mut SmallRng) -> DnsName {
        let depth = *[0, 1, 1, 1, 2, 2, 3].choose(random).unwrap();
        (0..depth).fold(self.apex.clone(), |name, _| {
            name.child(LABELS.choose(random).unwrap().as_bytes()).unwrap()
        })
    }

    fn question(&self, random: &mut SmallRng) -> (DnsName, RecordType) {
        let mut owner = match random.random_range(0..3) {
            0 => self.name(random),
            _ => self.records.choose(random).unwrap().0.clone(),
        };
        for _ in 0..*[0, 0, 0, 1, 2].choose(random).unwrap() {
            owner = owner.child(LABELS.choose(random).unwrap().as_bytes()).unwrap();
        }
        const TYPES: [RecordType; 10] = [
            RecordType::A,
            RecordType::A,
            RecordType::AAAA,
            RecordType::TXT,
            RecordType::MX,
            RecordType::NS,
            RecordType::CNAME,
            RecordType::DNAME,
            RecordType::SOA,
            RecordType::DS,
        ];
        (owner, *TYPES.choose(random).unwrap())
    }

    fn text(&self) -> String {
        self.records.iter().fold(String::new(), |mut text, (owner, rtype, data)| {
            let _ = writeln!(text, "{owner}. 300 IN {rtype} {data}");
            text
        })
    }
}

/// Another server with the same zones.
struct Peer {
    socket: UdpSocket,
    name: &'static str,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Peer {
    fn nsd(zones: &[Random]) -> Self {
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

    fn knot(zones: &[Random]) -> Self {
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

    fn powerdns(zones: &[Random]) -> Self {
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

    fn start(
        program: &'static str,
        zones: &[Random],
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

    fn ask(&self, message: &[u8]) -> Answer {
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
        loop {
            let len = self.socket.recv(&mut buffer).ok()?;
            if buffer[12..len].starts_with(&message[12..]) {
                return Some(Answer::read(&buffer[..len]));
            }
        }
    }
}
