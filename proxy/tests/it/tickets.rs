//! Clients that come back with a ticket.

use std::time::SystemTime;

use futures::{StreamExt, stream};
use rustls::{
    HandshakeKind, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use weir_proxy::TicketKeys;

use crate::{
    clients::TlsClient,
    harness::{Ca, World, certificates},
};

const HOST: &str = "blog.apps.test";
/// More than the sessions that rustls would remember without tickets.
const CLIENTS: usize = 260;

/// The kinds of the handshakes of as many clients, one connection each.
async fn connect(world: &World, clients: &[TlsClient]) -> Vec<HandshakeKind> {
    let connections = clients.iter().map(|client| async {
        let (answer, kind) = client.get(world.https, HOST, HOST, "/").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        kind
    });
    stream::iter(connections).buffered(16).collect().await
}

fn all(kinds: &[HandshakeKind], kind: HandshakeKind) -> bool {
    kinds.len() == CLIENTS && kinds.iter().all(|k| *k == kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_comes_back_with_a_ticket_also_after_a_restart_and_a_rotation() {
    let now = SystemTime::now();
    let mut keys = TicketKeys::generate(now).unwrap();
    let versions: [&'static SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
    for version in versions {
        let first = World::start();
        first.tickets.replace(&keys);
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| TlsClient::new(&first.ca, &[version], None)).collect();
        let kinds = connect(&first, &clients).await;
        assert!(all(&kinds, HandshakeKind::Full), "{version:?} first: {kinds:?}");
        let kinds = connect(&first, &clients).await;
        assert!(all(&kinds, HandshakeKind::Resumed), "{version:?} again: {kinds:?}");

        // Its certificate is of an authority that these clients do not know: they can only resume.
        let second = World::start();
        keys = TicketKeys::parse(&keys.serialize()).unwrap();
        second.tickets.replace(&keys);
        let kinds = connect(&second, &clients).await;
        assert!(all(&kinds, HandshakeKind::Resumed), "{version:?} restarted: {kinds:?}");

        let rotated = keys.rotate(now + TicketKeys::ROTATION).unwrap().unwrap();
        second.tickets.replace(&rotated);
        let kinds = connect(&second, &clients).await;
        assert!(all(&kinds, HandshakeKind::Resumed), "{version:?} rotated: {kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_cannot_be_opened_costs_a_full_handshake_and_nothing_else() {
    for version in [&TLS12, &TLS13] {
        let world = World::start();
        let client = TlsClient::new(&world.ca, &[version], None);
        let clients = vec![client; 1];
        connect(&world, &clients).await;
        world.tickets.replace(&TicketKeys::generate(SystemTime::now()).unwrap());
        assert_eq!(connect(&world, &clients).await, [HandshakeKind::Full]);
        assert_eq!(connect(&world, &clients).await, [HandshakeKind::Resumed]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_good_under_the_next_certificate_too() {
    let ca = Ca::new();
    let [old, new] = [ca.issue(&["*.apps.test"]), ca.issue(&["*.apps.test"])];
    let mut world = World::start_with(ca, certificates([old]));
    let client = TlsClient::new(&world.ca, &[&TLS13], None);
    let clients = vec![client; 1];
    assert_eq!(connect(&world, &clients).await, [HandshakeKind::Full]);
    world.control.publish(|snapshot| snapshot.certificates = certificates([new]));
    assert_eq!(connect(&world, &clients).await, [HandshakeKind::Resumed]);
}

/// OpenSSL, because two ends of one library may share a mistake.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_comes_back_with_a_ticket() {
    let world = World::start();
    let folder = std::env::temp_dir().join(format!("weir-tickets-{}", world.https.port()));
    for version in ["-tls1_2", "-tls1_3"] {
        let session = folder.with_extension(version);
        let session = session.to_str().unwrap();
        assert!(s_client(&world, version, "-sess_out", session).await.contains("New, TLSv1."));
        let again = s_client(&world, version, "-sess_in", session).await;
        assert!(again.contains("Reused, TLSv1."), "{again}");
        std::fs::remove_file(session).unwrap();
    }
}

async fn s_client(world: &World, version: &str, option: &str, session: &str) -> String {
    use tokio::{io::AsyncWriteExt, process::Command};
    let address = world.https.to_string();
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-servername", HOST, "-ign_eof", version])
        .args([option, session])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl is installed; `scripts/setup test` does it");
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    client.stdin.as_mut().unwrap().write_all(request.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(crate::harness::DEADLINE, client.wait_with_output());
    let output = output.await.expect("openssl never ended").unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
