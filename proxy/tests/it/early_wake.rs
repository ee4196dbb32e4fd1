//! Apps that are woken by a handshake, before a request is there.

use std::{net::SocketAddr, sync::Arc};

use futures::{StreamExt, stream};
use prometheus::{core::Collector, proto::Metric};
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use weir_config::{RouteState, SleepLevel};

use crate::{
    harness::{DEADLINE, Hint, World, eventually},
    upstreams::Echo,
};

fn sleeping() -> RouteState {
    RouteState::Asleep(SleepLevel::Paused)
}

fn eager() -> World {
    World::with(|settings| settings.speculative_wake = true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_wakes_the_app_before_a_request_is_sent() {
    let mut world = eager();
    let echo = Echo::start("blog").await;
    world.serve("blog", sleeping());
    let raw = world.raw("blog.apps.test").await;
    assert_eq!(world.hint().await, Hint::wake("blog"));
    assert_eq!((world.app("blog").held(), echo.hits()), (0, 0));
    assert_eq!(world.early_wakes(), [1, 0, 0, 0]);

    // The request finds it awake, and is what the wake was for.
    world.serve("blog", world.serving("blog", echo.address));
    let mut raw = raw;
    raw.send("GET / HTTP/1.1\r\nHost: blog.apps.test\r\nConnection: close\r\n\r\n").await;
    assert!(raw.read_to_end().await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.early_wakes(), [1, 1, 0, 0]);
    assert!(world.hints.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_other_names_wake_nothing() {
    let mut world = eager();
    let echo = Echo::start("awake").await;
    world.serve("blog", sleeping());
    world.serve("awake", world.serving("awake", echo.address));
    // A ClientHello for each, made once: the names are equally long.
    let hello = client_hello("x00000.apps.test");
    let place = hello.windows(6).position(|part| part == b"x00000").unwrap();
    let hellos = (0..2_000).map(|i| {
        let name = format!("x{i:05}");
        [&hello[..place], name.as_bytes(), &hello[place + 6..]].concat()
    });
    let awake = client_hello("awake.apps.test");
    stream::iter(hellos.chain([awake]))
        .for_each_concurrent(32, |hello| answered(world.https, hello))
        .await;
    assert!(world.hints.is_empty());
    assert_eq!(world.early_wakes(), [0, 0, 0, 0]);
    // By the same means, its own name does.
    answered(world.https, client_hello("blog.apps.test")).await;
    assert_eq!(world.hint().await, Hint::wake("blog"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_wakes_a_few_of_many() {
    let mut world = eager();
    for i in 0..100 {
        world.serve(&format!("app{i}"), sleeping());
    }
    for i in 0..100 {
        world.hello(&format!("app{i}.apps.test")).await;
    }
    let [issued, hits, wasted, refused] = world.early_wakes();
    assert!((1..=5).contains(&issued), "{issued}");
    assert_eq!((hits, wasted), (0, 0));
    assert!(refused > 80, "{refused}");
    assert_eq!(world.hints.len() as u64, issued);

    // A request wakes its app in any case.
    let sent = tokio::spawn(world.h1().get(world.url("app99", "/")).send());
    let app = world.app("app99");
    eventually("it is held", || app.held() == 1).await;
    while world.hint().await != Hint::wake("app99") {}
    sent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_turned_off() {
    // As it is in all the other tests.
    let mut world = World::start();
    world.serve("blog", sleeping());
    world.hello("blog.apps.test").await;
    assert!(world.hints.is_empty());
}

fn client_hello(server_name: &str) -> Vec<u8> {
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(server_name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Sends it, and waits for the first byte of the answer, which comes after the wake.
async fn answered(to: SocketAddr, hello: Vec<u8>) {
    let mut tcp = TcpStream::connect(to).await.unwrap();
    tcp.write_all(&hello).await.unwrap();
    let answer = timeout(DEADLINE, tcp.read_u8()).await.expect("no answer").unwrap();
    const HANDSHAKE: u8 = 22;
    assert_eq!(answer, HANDSHAKE);
}

impl World {
    /// A handshake for a name, and nothing after it.
    async fn hello(&self, server_name: &str) {
        self.raw(server_name).await;
    }

    /// How many wakes were issued, used, wasted and refused.
    fn early_wakes(&self) -> [u64; 4] {
        let families = self.metrics.collect();
        let wakes = families.iter().find(|f| f.name() == "weir_speculative_wakes_total").unwrap();
        ["issued", "used", "wasted", "refused"].map(|event| {
            let of_event = |metric: &&Metric| metric.get_label()[0].value() == event;
            let metric = wakes.get_metric().iter().find(of_event).unwrap();
            metric.get_counter().get_value() as u64
        })
    }
}
