//! Answers without an end: server-sent events.

use std::time::Duration;

use axum::{
    Router,
    response::sse::{Event, Sse},
    routing::get,
};
use futures::StreamExt;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use weir_config::{RouteState, SleepLevel, UpstreamProtocol};

use crate::{
    harness::{DEADLINE, World, eventually},
    upstreams::serve,
};

async fn read(response: &mut reqwest::Response) -> String {
    let chunk = tokio::time::timeout(DEADLINE, response.chunk()).await.expect("nothing came");
    String::from_utf8(chunk.unwrap().unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_there_at_once_and_the_stream_counts_until_it_is_left() {
    let mut world = World::start();
    let (events, _) = broadcast::channel::<String>(16);
    let app = Router::new().fallback(get({
        let events = events.clone();
        move || async move {
            let events = BroadcastStream::new(events.subscribe());
            Sse::new(events.map(|event| event.map(|text| Event::default().data(text))))
        }
    }));
    let address = serve(app).await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        // Shorter than the stream lasts: what is told at intervals is no silence.
        world.serve_with("live", &[address], |policy| {
            policy.upstream.protocol = protocol;
            policy.timeouts.read = Duration::from_secs(5);
        });
        for client in [world.h1(), world.h2()] {
            let mut stream = client.get(world.url("live", "/")).send().await.unwrap();
            assert_eq!(stream.headers()["content-type"], "text/event-stream");
            let app = world.app("live");
            for n in 0..20 {
                events.send(format!("event {n}")).unwrap();
                // Nothing else is sent that could push it out.
                assert_eq!(read(&mut stream).await, format!("data: event {n}\n\n"));
                assert_eq!(app.in_flight(), 1);
            }
            world.serve("live", RouteState::Asleep(SleepLevel::Paused));
            events.send("still".to_owned()).unwrap();
            assert_eq!(read(&mut stream).await, "data: still\n\n");
            drop((stream, client));
            eventually("it counts no more", || app.in_flight() == 0).await;
            world.serve_with("live", &[address], |policy| policy.upstream.protocol = protocol);
        }
    }
}
