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

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::MessageType,
        rr::{RData, Record, rdata::A},
    };
    use tokio::net::TcpListener;

    use super::*;

    /// What a server answers to a question: over UDP that it is too long.
    fn answer(question: &[u8], code: ResponseCode, is_udp: bool) -> Vec<u8> {
        let mut answer = Message::from_vec(question).unwrap();
        answer.metadata.message_type = MessageType::Response;
        (answer.metadata.response_code, answer.metadata.truncation) = (code, is_udp);
        if !is_udp {
            let (name, data) = (answer.queries[0].name().clone(), RData::A(A::new(192, 0, 2, 1)));
            answer.answers.push(Record::from_rdata(name, 60, data));
        }
        answer.to_vec().unwrap()
    }

    /// A server that answers everything over TCP only, and before that something else.
    async fn server() -> SocketAddr {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                let mut forged = answer(&buffer[..length], ResponseCode::NXDomain, false);
                forged[0] ^= 1;
                udp.send_to(&forged, from).await.unwrap();
                let honest = answer(&buffer[..length], ResponseCode::NoError, true);
                udp.send_to(&honest, from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answer(&question, ResponseCode::NoError, false);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_long_answer_comes_by_tcp_a_forged_one_is_not_taken_and_a_silent_server_passed_by() {
        let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let resolver = StubResolver::new(vec![closed, server().await]);
        let name = "www.example.test".parse().unwrap();
        let found = resolver.lookup(&name, RecordType::A).await.unwrap();
        assert_eq!(found, Found { data: vec![Box::from([192, 0, 2, 1])], ttl: 60 });
        let none = resolver.lookup(&name, RecordType::CAA).await.unwrap();
        assert!(none.data.is_empty());
        let silent = StubResolver::new(vec![closed]);
        assert!(silent.lookup(&name, RecordType::A).await.unwrap_err().starts_with("127.0.0.1:"));
    }
}
