//! A stub resolver (RFC 1034, 5.3.1): asks name servers that ask on.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RecordType as Type},
    serialize::binary::{BinDecodable, BinEncodable},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use weir_config::{DnsName, Found, Lookup, RecordType, Resolver};

/// For each server and transport.
const PATIENCE: Duration = Duration::from_secs(3);
/// What servers may send at once (as DNS Flag Day 2020 has it).
const MOST: u16 = 1232;
const CONFIGURATION: &str = "/etc/resolv.conf";

/// Asks these servers in turn, or else those of this machine.
#[derive(Clone, Debug, Default)]
pub struct StubResolver {
    servers: Vec<SocketAddr>,
}

impl StubResolver {
    /// Without `servers`, it asks those that `resolv.conf` names when it is asked.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    async fn ask(&self, name: &DnsName, rtype: RecordType) -> Result<Found, String> {
        let servers = match self.servers.as_slice() {
            [] => of_this_machine().await,
            servers => servers.to_vec(),
        };
        let mut last = "there is no name server to ask".to_owned();
        for server in servers {
            match ask_one(server, name, rtype).await {
                Ok(found) => return Ok(found),
                Err(error) => last = format!("{server}: {error}"),
            }
        }
        Err(last)
    }
}

impl Resolver for StubResolver {
    fn lookup<'a>(&'a self, name: &'a DnsName, rtype: RecordType) -> Lookup<'a> {
        Box::pin(self.ask(name, rtype))
    }
}

/// As `resolv.conf(5)` has them.
async fn of_this_machine() -> Vec<SocketAddr> {
    let text = tokio::fs::read_to_string(CONFIGURATION).await.unwrap_or_default();
    let addresses = text.lines().filter_map(|line| {
        let address = line.strip_prefix("nameserver")?.trim();
        // A scope, as in fe80::1%eth0, is of use to the C library only.
        address.parse::<IpAddr>().ok()
    });
    let servers: Vec<_> = addresses.map(|address| SocketAddr::new(address, 53)).collect();
    match servers.is_empty() {
        true => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))],
        false => servers,
    }
}

async fn ask_one(server: SocketAddr, name: &DnsName, rtype: RecordType) -> io::Result<Found> {
    let bad = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let mut question = Message::query();
    let name = Name::from_bytes(name.wire()).map_err(|error| bad(&error))?;
    question.add_query(Query::query(name, Type::from(rtype.0)));
    question.metadata.recursion_desired = true;
    let mut edns = Edns::new();
    edns.set_max_payload(MOST);
    question.edns = Some(edns);
    let bytes = question.to_vec().map_err(|error| bad(&error))?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
    let mut answer =
        timeout(PATIENCE, over_udp(server, &bytes, &question)).await.map_err(late)??;
    if answer.metadata.truncation {
        answer = timeout(PATIENCE, over_tcp(server, &bytes, &question)).await.map_err(late)??;
    }
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        code => return Err(io::Error::other(format!("it answers {code}"))),
    }
    let of_type =
        answer.answers.iter().filter(|record| record.record_type() == Type::from(rtype.0));
    let mut found = Found { ttl: u32::MAX, ..Found::default() };
    for record in of_type {
        found.ttl = found.ttl.min(record.ttl);
        found.data.push(record.data.to_bytes().map_err(|error| bad(&error))?.into());
    }
    Ok(found)
}

async fn over_udp(server: SocketAddr, question: &[u8], asked: &Message) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each question, which is half of what a forger has to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = [0; MOST as usize];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What answers something else is not what was waited for.
        if let Some(answer) = answer_to(asked, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8], asked: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&(question.len() as u16).to_be_bytes()).await?;
    stream.write_all(question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    answer_to(asked, &answer).ok_or_else(|| io::Error::other("it answers something else"))
}

fn answer_to(asked: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let is_same = answer.metadata.id == asked.metadata.id && answer.queries == asked.queries;
    is_same.then_some(answer)
}
