//! The control server: devices register with it, and it tells each of the others.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONNECTION, UPGRADE},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use ts_keys::{DiscoPublicKey, MachineKeyPair, NodePublicKey};

use crate::{DOMAIN, noise};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The one region that the relay is in.
const REGION: u32 = 1;

pub(crate) struct State {
    keys: MachineKeyPair,
    relay: SocketAddr,
    auth_key: String,
    nodes: Mutex<BTreeMap<NodePublicKey, Node>>,
    /// Counts changes of the nodes, for those that wait for one.
    changes: watch::Sender<u64>,
}

#[derive(Clone)]
struct Node {
    number: u8,
    name: String,
    disco: DiscoPublicKey,
    endpoints: Vec<SocketAddr>,
}

/// What counts for us of a request to register.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Register {
    node_key: NodePublicKey,
    auth: Option<Auth>,
    #[serde(default)]
    hostinfo: HostInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Auth {
    auth_key: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostInfo {
    hostname: String,
}

/// What counts for us of a request for the map, by which a device also tells of itself.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Map {
    node_key: NodePublicKey,
    disco_key: DiscoPublicKey,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    endpoints: Vec<SocketAddr>,
}

pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(state.plain(request)) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), service)
                .with_upgrades();
            // A device may go at any time.
            drop(served.await);
        });
    }
}

impl State {
    pub(crate) fn new(relay: SocketAddr, auth_key: String) -> Self {
        let (keys, changes) = (MachineKeyPair::random(), watch::Sender::new(0));
        Self { keys, relay, auth_key, nodes: Mutex::default(), changes }
    }

    /// Answers before the handshake: our key, and the handshake itself.
    fn plain(self: &Arc<Self>, mut request: Request<Incoming>) -> Answer {
        match request.uri().path() {
            "/key" => {
                let key = self.keys.public;
                json_answer(&json!({"legacyPublicKey": key, "publicKey": key}))
            }
            "/ts2021" if request.method() == Method::POST => {
                let header = request.headers().get("x-tailscale-handshake");
                let begun = header.and_then(|value| noise::begin(value.as_bytes(), &self.keys));
                let Some(begun) = begun else { return refusal(StatusCode::BAD_REQUEST) };
                let (state, upgrade) = (self.clone(), hyper::upgrade::on(&mut request));
                tokio::spawn(async move {
                    let Ok(connection) = upgrade.await else { return };
                    if let Ok(sealed) = begun.finish(TokioIo::new(connection)).await {
                        state.speak(sealed).await;
                    }
                });
                let mut answer = refusal(StatusCode::SWITCHING_PROTOCOLS);
                for (name, value) in
                    [(CONNECTION, "Upgrade"), (UPGRADE, "tailscale-control-protocol")]
                {
                    answer
                        .headers_mut()
                        .insert(name, hyper::header::HeaderValue::from_static(value));
                }
                answer
            }
            _ => refusal(StatusCode::NOT_FOUND),
        }
    }

    /// Speaks HTTP/2 on a sealed connection, until its device goes.
    async fn speak(
        self: Arc<Self>,
        connection: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    ) {
        let service = service_fn(move |request| {
            let state = self.clone();
            async move { Ok::<_, Infallible>(state.sealed(request).await) }
        });
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(http.serve_connection(TokioIo::new(connection), service).await);
    }

    async fn sealed(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let Ok(body) = request.into_body().collect().await else {
            return refusal(StatusCode::BAD_REQUEST);
        };
        let body = body.to_bytes();
        let answer = match path.as_str() {
            "/machine/register" => {
                serde_json::from_slice(&body).map(|register| self.register(register))
            }
            "/machine/map" => serde_json::from_slice(&body).map(|map| self.map(map)),
            _ => return refusal(StatusCode::NOT_FOUND),
        };
        answer.unwrap_or_else(|_| refusal(StatusCode::BAD_REQUEST))
    }

    fn register(&self, register: Register) -> Answer {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = nodes.contains_key(&register.node_key);
        let is_let_in = register.auth.is_some_and(|auth| auth.auth_key == self.auth_key);
        if is_let_in && !is_known {
            let Ok(number) = u8::try_from(nodes.len() + 1) else {
                return refusal(StatusCode::INSUFFICIENT_STORAGE);
            };
            let (name, disco) = (register.hostinfo.hostname, DiscoPublicKey::default());
            nodes.insert(register.node_key, Node { number, name, disco, endpoints: Vec::new() });
        }
        json_answer(&json!({
            "User": {"ID": 1},
            "Login": {"ID": 1, "Provider": "test", "LoginName": "test"},
            "NodeKeyExpired": false,
            "MachineAuthorized": is_known || is_let_in,
            "AuthURL": "",
            "Error": "",
        }))
    }

    fn map(self: Arc<Self>, map: Map) -> Answer {
        {
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(node) = nodes.get_mut(&map.node_key) else {
                return refusal(StatusCode::UNAUTHORIZED);
            };
            (node.disco, node.endpoints) = (map.disco_key, map.endpoints);
        }
        self.changes.send_modify(|changes| *changes += 1);
        if !map.stream {
            return json_answer(&json!({}));
        }
        let maps = self.maps(map.node_key);
        Response::new(StreamBody::new(maps).boxed_unsync())
    }

    /// The whole map at once, and the other devices each time that anything changes.
    fn maps(
        self: Arc<Self>,
        of: NodePublicKey,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
        let changes = self.changes.subscribe();
        stream::unfold((self, changes, true), move |(state, mut changes, is_first)| async move {
            match is_first {
                true => drop(changes.borrow_and_update()),
                false => changes.changed().await.ok()?,
            }
            let mut map = json!({"Peers": state.nodes_but(of)});
            if is_first {
                map["Node"] = state.node(of)?;
                map["DERPMap"] = state.relays();
                map["Domain"] = json!(DOMAIN);
                map["PacketFilter"] = json!([{
                    "SrcIPs": ["*"],
                    "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}],
                }]);
            }
            let body = map.to_string();
            let length = u32::try_from(body.len()).ok()?.to_le_bytes();
            let frame = Frame::data([&length[..], body.as_bytes()].concat().into());
            Some((Ok(frame), (state, changes, false)))
        })
    }

    fn node(&self, key: NodePublicKey) -> Option<Value> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&key).map(|node| node.shown(key))
    }

    fn nodes_but(&self, key: NodePublicKey) -> Vec<Value> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let others = nodes.iter().filter(|(other, _)| **other != key);
        others.map(|(key, node)| node.shown(*key)).collect()
    }

    fn relays(&self) -> Value {
        let (address, port) = (self.relay.ip().to_string(), self.relay.port());
        json!({"omitDefaultRegions": true, "Regions": {REGION.to_string(): {
            "RegionID": REGION, "RegionCode": "test", "RegionName": "test",
            "Nodes": [{
                "Name": "1", "RegionID": REGION, "HostName": address, "IPv4": address,
                "IPv6": "none", "STUNPort": -1, "DERPPort": port, "InsecureForTests": true,
            }],
        }}})
    }
}

impl Node {
    fn shown(&self, key: NodePublicKey) -> Value {
        let v4 = Ipv4Addr::new(100, 64, 0, self.number);
        let v6 = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, self.number.into());
        let addresses = json!([format!("{v4}/32"), format!("{v6}/128")]);
        json!({
            "ID": self.number,
            "StableID": format!("node-{}", self.number),
            "Name": format!("{}.{DOMAIN}.", self.name),
            "Key": key,
            "DiscoKey": self.disco,
            "Addresses": addresses,
            "AllowedIPs": addresses,
            "Endpoints": self.endpoints,
            "HomeDERP": REGION,
            "MachineAuthorized": true,
            "Online": true,
        })
    }
}

fn json_answer(value: &Value) -> Answer {
    Response::new(Full::from(value.to_string()).boxed_unsync())
}

fn refusal(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default().boxed_unsync());
    *answer.status_mut() = status;
    answer
}
