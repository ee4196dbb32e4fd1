//! Servers on real sockets, and a client.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr,
    serialize::binary::{BinEncodable, BinEncoder},
};
use tokio::runtime::Runtime;
use weir_config::{DnsName, Publisher, RecordType, Snapshot, Zone, channel};
use weir_dns::{Options, Server, bind};

use crate::zones::Record;

const PATIENCE: Duration = Duration::from_secs(10);

/// What is served, on the fast and on the slow path.
pub(crate) struct Served {
    publisher: Publisher,
    snapshot: Snapshot,
    pub(crate) fast: Running,
    pub(crate) slow: Running,
    _runtime: Runtime,
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    client: UdpSocket,
    _server: Server,
}

impl Served {
    pub(crate) fn start(zones: impl IntoIterator<Item = Zone>) -> Self {
        Self::with(zones, &Options::default())
    }

    pub(crate) fn with(zones: impl IntoIterator<Item = Zone>, options: &Options) -> Self {
        let runtime = Runtime::new().unwrap();
        let mut snapshot = Snapshot::empty(1, 0, Arc::default());
        zones.into_iter().for_each(|zone| snapshot.insert_zone(Arc::new(zone)));
        let (publisher, snapshots) = channel(snapshot.clone());
        let start = |is_slow| {
            let _inside = runtime.enter();
            let (udp, tcp) = bind((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
            let address = tcp.local_addr().unwrap();
            let options = Options { is_slow, cookie_secret: Some([7; 16]), ..options.clone() };
            let server = Server::start(snapshots.clone(), udp, vec![tcp], options).unwrap();
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            client.connect(address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            Running { address, client, _server: server }
        };
        let (fast, slow) = (start(false), start(true));
        Self { publisher, snapshot, fast, slow, _runtime: runtime }
    }

    /// Serves something else from now on.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot);
        self.snapshot.generation += 1;
        self.publisher.publish(Arc::new(self.snapshot.clone())).unwrap();
    }

    /// Serves one zone and nothing else.
    pub(crate) fn serve_only(&mut self, zone: Zone) {
        self.change(|snapshot| {
            let names: Vec<_> = snapshot.zones().map(|zone| zone.name().clone()).collect();
            names.iter().for_each(|name| snapshot.remove_zone(name));
            snapshot.insert_zone(Arc::new(zone));
        });
    }

    /// The answer to a question, which is the same over UDP on both paths.
    pub(crate) fn ask(&self, name: &str, rtype: &str) -> Answer {
        self.ask_bytes(&question(&crate::zones::name(name), rtype.parse().unwrap()))
    }

    pub(crate) fn ask_bytes(&self, message: &[u8]) -> Answer {
        let (fast, slow) = (self.fast.udp(message), self.slow.udp(message));
        assert_eq!(fast, slow, "the paths differ in their answers to {message:02x?}");
        Answer::read(&fast)
    }
}

impl Running {
    pub(crate) fn udp(&self, message: &[u8]) -> Vec<u8> {
        self.client.send(message).unwrap();
        self.receive().expect("an answer")
    }

    /// Sends messages that get no answer, and a question that gets one.
    pub(crate) fn is_silent_to(&self, messages: &[Vec<u8>]) -> bool {
        let probe = [0x77, 0x77, 0x78, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        messages.iter().for_each(|message| drop(self.client.send(message)));
        self.client.send(&probe).unwrap();
        self.receive().is_some_and(|answer| answer[..2] == probe[..2])
    }

    pub(crate) fn send(&self, message: &[u8]) {
        self.client.send(message).unwrap();
    }

    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        let len = self.client.recv(&mut buffer).ok()?;
        Some(buffer[..len].to_vec())
    }

    pub(crate) fn set_patience(&self, patience: Duration) {
        self.client.set_read_timeout(Some(patience)).unwrap();
    }

    pub(crate) fn connect(&self) -> Tcp {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Tcp(stream)
    }
}

pub(crate) struct Tcp(pub(crate) TcpStream);

impl Tcp {
    pub(crate) fn send(&mut self, message: &[u8]) {
        let framed = [&(message.len() as u16).to_be_bytes()[..], message].concat();
        self.0.write_all(&framed).unwrap();
    }

    /// The next message; `None` at the end.
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut len = [0; 2];
        self.0.read_exact(&mut len).ok()?;
        let mut message = vec![0; u16::from_be_bytes(len).into()];
        self.0.read_exact(&mut message).unwrap();
        Some(message)
    }

    pub(crate) fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.send(message);
        self.receive().expect("an answer")
    }
}

/// A question of class IN, without EDNS.
pub(crate) fn question(name: &DnsName, rtype: RecordType) -> Vec<u8> {
    question_of(name.wire(), rtype, 1)
}

pub(crate) fn question_of(wire: &[u8], rtype: RecordType, class: u16) -> Vec<u8> {
    let header = [0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let (rtype, class) = (rtype.0.to_be_bytes(), class.to_be_bytes());
    [&header[..], wire, &rtype, &class].concat()
}

/// The same question with an OPT record: its class, its TTL and its data.
pub(crate) fn with_edns(mut message: Vec<u8>, payload: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    message[11] += 1;
    message.extend_from_slice(&[0, 0, 41]);
    message.extend_from_slice(&payload.to_be_bytes());
    message.extend_from_slice(&ttl.to_be_bytes());
    message.extend_from_slice(&(options.len() as u16).to_be_bytes());
    message.extend_from_slice(options);
    message
}

/// What was answered, in an order of its own.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rcode: ResponseCode,
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
    pub(crate) answer: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) additional: Vec<Record>,
    pub(crate) edns: Option<hickory_proto::op::Edns>,
}

impl Answer {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let message = Message::from_vec(bytes).unwrap_or_else(|e| panic!("{e}: {bytes:02x?}"));
        let records = |section: &[rr::Record]| {
            let mut records: Vec<_> = section.iter().map(read).collect();
            records.sort();
            records
        };
        Self {
            bytes: bytes.to_vec(),
            rcode: message.metadata.response_code,
            authoritative: message.metadata.authoritative,
            truncated: message.metadata.truncation,
            answer: records(&message.answers),
            authority: records(&message.authorities),
            additional: records(&message.additionals),
            edns: message.edns,
        }
    }
}

fn read(record: &rr::Record) -> Record {
    let uncompressed = |part: &dyn BinEncodable| {
        let mut bytes = Vec::new();
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_canonical_form(true);
        encoder.set_name_encoding(
            hickory_proto::serialize::binary::NameEncoding::UncompressedLowercase,
        );
        part.emit(&mut encoder).unwrap();
        bytes
    };
    Record {
        owner: DnsName::from_wire(&uncompressed(&record.name)).unwrap(),
        ttl: record.ttl,
        rtype: RecordType(record.record_type().into()),
        data: uncompressed(&record.data),
    }
}
