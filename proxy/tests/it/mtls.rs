//! Apps that ask their clients for a certificate.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{
    ALL_VERSIONS, HandshakeKind,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    },
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use serde_json::Value;
use weir_config::{AppRoute, ClientAuth, PlainHttp, RouteState, SleepLevel, TrafficPolicy};

use crate::{
    clients::{TlsClient, der},
    harness::{Ca, Hint, World, logged},
    upstreams::{Echo, received},
};

/// A world with two apps whose clients are asked, and one whose are not.
struct Asking {
    world: World,
    /// The authority of `private`, and that of `other`.
    clients: [Ca; 2],
}

impl Asking {
    async fn start() -> Self {
        let asking = Self { world: World::start(), clients: [Ca::new(), Ca::new()] };
        asking.serving().await
    }

    async fn serving(mut self) -> Self {
        for (name, ca, optional) in
            [("private", Some(0), false), ("other", Some(1), true), ("public", None, false)]
        {
            let echo = Echo::start(name).await;
            let client_auth = ca.map(|ca| auth(&self.clients[ca], optional));
            self.serve(name, &echo, client_auth);
        }
        self
    }

    fn serve(&mut self, name: &str, echo: &Echo, client_auth: Option<ClientAuth>) {
        let route = self.world.route(name, self.world.serving(name, echo.address));
        let policy = Arc::new(TrafficPolicy { client_auth, ..(*route.policy).clone() });
        self.world.control.publish(|snapshot| snapshot.insert(AppRoute { policy, ..route }));
    }

    fn nobody(&self) -> TlsClient {
        self.world.tls()
    }

    /// A client with a certificate of this app's authority.
    fn client(&self, authority: usize) -> TlsClient {
        let identity = self.clients[authority].issue(&["alice.test"]);
        TlsClient::new(&self.world.ca, ALL_VERSIONS, Some(&identity))
    }

    /// The status of a request over a connection that was made for another name, or for its own;
    /// 0 if the handshake is refused.
    async fn status(&self, client: &TlsClient, connected_to: &str, host: &str) -> u16 {
        let (connected_to, host) =
            (format!("{connected_to}.apps.test"), format!("{host}.apps.test"));
        match client.get(self.world.https, &connected_to, &host, "/").await {
            Ok((answer, _)) => answer[9..12].parse().unwrap(),
            Err(error) => {
                assert!(error.to_string().contains("received fatal alert"), "{error}");
                0
            }
        }
    }
}

fn auth(ca: &Ca, optional: bool) -> ClientAuth {
    ClientAuth { roots: [Arc::from(der(&ca.pem()).as_ref())].into_iter().collect(), optional }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_client_that_proves_itself_as_the_app_wants_gets_through() {
    let asking = Asking::start().await;
    let (nobody, alice, stranger) = (asking.nobody(), asking.client(0), asking.client(1));
    for (client, connected_to, host, status) in [
        (&nobody, "private", "private", 0),
        (&stranger, "private", "private", 0),
        (&alice, "private", "private", 200),
        // What is optional must still be valid.
        (&nobody, "other", "other", 200),
        (&stranger, "other", "other", 200),
        (&alice, "other", "other", 0),
        (&nobody, "public", "public", 200),
        (&alice, "public", "public", 200),
        // What was proved to one is not proved to the other.
        (&nobody, "public", "private", 421),
        (&alice, "public", "private", 421),
        (&alice, "private", "other", 421),
        (&nobody, "other", "private", 421),
        // Who proved more than was asked is welcome.
        (&alice, "private", "public", 200),
    ] {
        let found = asking.status(client, connected_to, host).await;
        assert_eq!(found, status, "connected to {connected_to}, asks for {host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_learns_who_its_client_is_and_is_told_nothing_by_strangers() {
    let asking = Asking::start().await;
    let identity = asking.clients[0].issue(&["alice.test"]);
    let alice = TlsClient::new(&asking.world.ca, ALL_VERSIONS, Some(&identity));
    for (client, app, path, told) in [
        (&alice, "private", "/who", true),
        // This one did not ask.
        (&alice, "public", "/", false),
        (&asking.nobody(), "public", "/", false),
        (&asking.nobody(), "other", "/", false),
    ] {
        let name = format!("{app}.apps.test");
        let mut raw = client.connect(asking.world.https, &name).await.unwrap();
        raw.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nClient-Cert: :Zm9yZ2Vk:\r\n\
             Client-Cert-Chain: :Zm9yZ2Vk:\r\nClient_Cert: :Zm9yZ2Vk:\r\n\r\n"
        ))
        .await;
        let answer = raw.read_to_end().await;
        let json = answer.find('{').unwrap()..=answer.rfind('}').unwrap();
        let echoed: Value = serde_json::from_str(&answer[json]).unwrap();
        let base64 = BASE64_STANDARD.encode(&identity.chain[0]);
        let expected = told.then(|| format!(":{base64}:"));
        assert_eq!(received(&echoed, "client-cert"), Vec::from_iter(expected), "{app}");
        for gone in ["client-cert-chain", "client_cert"] {
            assert!(received(&echoed, gone).is_empty(), "{app}: {gone}");
        }
    }
    let fingerprint = logged("/who").await["client_cert_sha256"].clone();
    assert_eq!(fingerprint.as_str().map(str::len), Some(64), "{fingerprint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_from_before_the_policy_changed_is_not_good_enough_after_it() {
    let mut asking = Asking::start().await;
    let echo = Echo::start("public").await;
    for versions in [&TLS12, &TLS13] {
        asking.serve("public", &echo, None);
        let nobody = TlsClient::new(&asking.world.ca, &[versions], None);
        let mut raw = nobody.connect(asking.world.https, "public.apps.test").await.unwrap();
        raw.send("GET / HTTP/1.1\r\nHost: public.apps.test\r\n\r\n").await;
        assert!(raw.read_until("\r\n").await.contains("200"));
        // Having read all of an answer, it also has its tickets.
        assert_eq!(asking.status(&nobody, "public", "public").await, 200);

        let required = auth(&asking.clients[0], false);
        asking.serve("public", &echo, Some(required));
        assert_eq!(asking.status(&nobody, "public", "public").await, 0, "with a ticket");
        let alice = asking.client(0);
        assert_eq!(asking.status(&alice, "public", "public").await, 200);

        let others = auth(&asking.clients[1], false);
        asking.serve("public", &echo, Some(others));
        assert_eq!(asking.status(&alice, "public", "public").await, 0, "other roots");
    }
}

/// Offers every ticket to every server.
#[derive(Debug)]
struct Promiscuous(ClientSessionMemoryCache);

const ANYONE: &str = "anyone.test";

fn anyone() -> ServerName<'static> {
    ServerName::try_from(ANYONE).unwrap()
}

impl ClientSessionStore for Promiscuous {
    fn set_kx_hint(&self, _: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(anyone(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&anyone())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(anyone(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&anyone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&anyone());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(anyone(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&anyone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_of_another_host_takes_the_place_of_a_certificate() {
    let asking = Asking::start().await;
    let https = asking.world.https;
    for version in [&TLS12, &TLS13] {
        let mut nobody = TlsClient::new(&asking.world.ca, &[version], None);
        let store = Promiscuous(ClientSessionMemoryCache::new(32));
        Arc::make_mut(&mut nobody.0).resumption = Resumption::store(Arc::new(store));
        // Where it may resume, it does: the tickets are good.
        for resumed in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let got = nobody.get(https, "public.apps.test", "public.apps.test", "/").await;
            let (answer, kind) = got.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert_eq!(kind, resumed);
        }
        assert_eq!(asking.status(&nobody, "private", "private").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_itself_gets_no_ticket() {
    let asking = Asking::start().await;
    for version in [&TLS12, &TLS13] {
        let identity = asking.clients[0].issue(&["alice.test"]);
        let alice = TlsClient::new(&asking.world.ca, &[version], Some(&identity));
        for _ in 0..3 {
            let got = alice.get(asking.world.https, "private.apps.test", "private.apps.test", "/");
            assert_eq!(got.await.unwrap().1, HandshakeKind::Full);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_around_it_without_tls_or_by_a_path() {
    let mut asking = Asking::start().await;
    let echo = Echo::start("back").await;
    let route = asking.world.route("back", asking.world.serving("back", echo.address));
    let policy = Arc::new(TrafficPolicy {
        client_auth: Some(auth(&asking.clients[0], false)),
        plain_http: PlainHttp::Serve,
        ..(*route.policy).clone()
    });
    let hostnames = ["back.apps.test", "public.apps.test/admin"];
    let hostnames = hostnames.iter().map(|name| name.parse().unwrap()).collect();
    asking
        .world
        .control
        .publish(|snapshot| snapshot.insert(AppRoute { hostnames, policy, ..route }));

    let plain = format!("http://127.0.0.1:{}/", asking.world.http.port());
    let got = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
        .get(plain)
        .header("Host", "back.apps.test");
    assert_eq!(got.send().await.unwrap().status(), 308);

    // One app that asks makes the whole host name ask.
    let (nobody, alice) = (asking.nobody(), asking.client(0));
    assert_eq!(asking.status(&nobody, "public", "public").await, 0);
    for path in ["/", "/admin", "/admin/x"] {
        let host = "public.apps.test";
        let (answer, _) = alice.get(asking.world.https, host, host, path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    assert_eq!(echo.hits(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_asks_is_not_woken_by_who_has_not_answered() {
    let mut world = World::with(|settings| settings.speculative_wake = true);
    let route = world.route("private", RouteState::Asleep(SleepLevel::Paused));
    let client_auth = Some(auth(&Ca::new(), false));
    let policy = Arc::new(TrafficPolicy { client_auth, ..(*route.policy).clone() });
    world.control.publish(|snapshot| snapshot.insert(AppRoute { policy, ..route }));
    world.serve("public", RouteState::Asleep(SleepLevel::Paused));
    let host = "private.apps.test";
    world.tls().get(world.https, host, host, "/").await.unwrap_err();
    world.raw("public.apps.test").await;
    assert_eq!(world.hint().await, Hint::wake("public"));
    assert!(world.hints.is_empty());
}
