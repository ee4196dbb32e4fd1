//! HTTP/2 without TLS from clients, on the plain port of an app that is served there.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;
use weir_config::{PlainHttp, UpstreamProtocol};

use crate::{
    harness::{World, eventually},
    upstreams::{Echo, received},
};

/// What curl gets, as text; its version of HTTP comes last.
async fn curl(world: &World, options: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--write-out", " %{http_version}"])
        .args(["--connect-to", &format!("::127.0.0.1:{}", world.http.port())])
        .args(options)
        .arg("http://blog.apps.test/path")
        .stdin(Stdio::null())
        .output()
        .await
        .expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_served_on_the_plain_port_in_every_version() {
    let mut world = World::start();
    let echo = Echo::start("blog").await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        world.serve_with("blog", &[echo.address], |policy| {
            policy.plain_http = PlainHttp::Serve;
            policy.upstream.protocol = protocol;
        });
        for (option, version) in
            [("--http2-prior-knowledge", "2"), ("--http1.1", "1.1"), ("--http1.0", "1.1")]
        {
            let text = curl(&world, &[option, "--data", "some"]).await;
            let (body, spoken) = text.rsplit_once(' ').unwrap();
            assert_eq!(spoken, version, "{option}");
            let echoed: Value = serde_json::from_str(body).unwrap();
            assert_eq!((&echoed["method"], &echoed["body"]), (&"POST".into(), &"some".into()));
            assert_eq!(received(&echoed, "x-forwarded-proto"), ["http"]);
        }
    }
    let app = world.app("blog");
    eventually("all are counted", || app.statuses()[1] == 6).await;
}
