//! Bodies larger than anybody wants to keep, both ways.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::{get, post},
};
use futures::{StreamExt, stream};
use weir_config::UpstreamProtocol;

use crate::{
    harness::{DEADLINE, World, eventually},
    upstreams::serve,
};

const CHUNK: usize = 64 << 10;

/// What may be on its way without anybody having taken it: sockets' buffers on both sides, windows
/// of HTTP/2 and the proxy's own few buffers. Far below what is offered.
const ON_ITS_WAY: u64 = 24 << 20;
const OFFERED: u64 = 64 << 20;

/// A body of [`OFFERED`] bytes that counts what is taken of it.
fn offered(taken: Arc<AtomicU64>) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    stream::iter(0..OFFERED / CHUNK as u64).map(move |_| {
        taken.fetch_add(CHUNK as u64, SeqCst);
        Ok(Bytes::from_static(&[7; CHUNK]))
    })
}

/// Waits until the count stands still, and returns it.
async fn settled(count: &AtomicU64) -> u64 {
    let mut former = u64::MAX;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = count.load(SeqCst);
        if now == former && now > 0 {
            return now;
        }
        former = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_waits_for_its_receiver_and_then_all_of_it_arrives() {
    let mut world = World::start();
    let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let open = tokio::sync::watch::Sender::new(false);
    let download = {
        let sent = sent.clone();
        move || async move { Body::from_stream(offered(sent)) }
    };
    let upload = {
        let (received, open) = (received.clone(), open.clone());
        move |body: Body| async move {
            let _ = open.subscribe().wait_for(|open| *open).await;
            let mut body = body.into_data_stream();
            while let Some(chunk) = body.next().await {
                received.fetch_add(chunk.unwrap().len() as u64, SeqCst);
            }
        }
    };
    let app = Router::new().route("/download", get(download)).route("/upload", post(upload));
    let address = serve(app.layer(axum::extract::DefaultBodyLimit::disable())).await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        world.serve_with("blog", &[address], |policy| policy.upstream.protocol = protocol);
        for client in [world.h1(), world.h2()] {
            sent.store(0, SeqCst);
            let mut response = client.get(world.url("blog", "/download")).send().await.unwrap();
            let ahead = settled(&sent).await;
            assert!(ahead < ON_ITS_WAY, "{ahead} bytes ahead of a client that reads nothing");
            let mut length = 0;
            while let Some(chunk) = response.chunk().await.unwrap() {
                length += chunk.len() as u64;
            }
            assert_eq!(length, OFFERED);

            open.send_replace(false);
            received.store(0, SeqCst);
            let given = Arc::new(AtomicU64::new(0));
            let body = reqwest::Body::wrap_stream(offered(given.clone()));
            let url = world.url("blog", "/upload");
            let sending = tokio::spawn(client.post(url).timeout(2 * DEADLINE).body(body).send());
            let ahead = settled(&given).await;
            assert!(ahead < ON_ITS_WAY, "{ahead} bytes ahead of an app that reads nothing");
            open.send_replace(true);
            assert_eq!(sending.await.unwrap().unwrap().status(), 200);
            assert_eq!(received.load(SeqCst), OFFERED);
        }
    }
    let app = world.app("blog");
    eventually("nothing is left", || app.in_flight() == 0).await;
}
