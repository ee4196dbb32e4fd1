//! From a change through the admin API, of a zone of a million records, to its answer on every
//! socket.

use std::{
    fmt::Write,
    fs,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use weir_config::DnsName;

use super::change::answer;
use crate::{report::Report, weir};

const NAMES: u32 = 1_000_000;
const CHANGES: u32 = 300;
/// The kernel divides clients between the sockets by their ports.
const CLIENTS: usize = 8;
const ZONE: &str = "zone.test";
/// Until a zone of this size is taken in.
const IMPORT: Duration = Duration::from_secs(600);

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = weir::serve(dir.path(), weir::any())?;
    command.args(["--dns", "127.0.0.1:0", "--docker", "/nonexistent/docker.sock"]);
    let mut child = weir::spawn(&mut command, dir.path())?;
    let measured = measure_on(report, dir.path(), &mut child).await;
    child.kill()?;
    child.wait()?;
    measured
}

async fn measure_on(
    report: &mut Report,
    dir: &std::path::Path,
    child: &mut std::process::Child,
) -> anyhow::Result<()> {
    let [_, _, admin] = weir::listening(dir, child).await?;
    let log = fs::read_to_string(weir::log(dir))?;
    let dns = dns_address(&log).context("it does not say where it answers")?;
    let (token, http) = (weir::token(dir)?, reqwest::Client::new());
    let request = |method: Method, path: &str| {
        http.request(method, format!("http://{admin}/v1/zones/{path}")).bearer_auth(&token)
    };
    let zone = json!({"kind": "Zone", "name": ZONE, "spec": {"addresses": ["192.0.2.1"]}});
    request(Method::PUT, ZONE).json(&zone).send().await?.error_for_status()?;
    let mut file = String::from("$TTL 300\n");
    for host in 0..NAMES {
        writeln!(file, "host{host} A {}", std::net::Ipv4Addr::from(host))?;
    }
    let began = Instant::now();
    let import = request(Method::POST, &format!("{ZONE}/actions/import")).body(file);
    import.timeout(IMPORT).send().await?.error_for_status()?;
    // The import is answered when it is served, or before if that takes long.
    let clients = (0..CLIENTS).map(|_| client(dns)).collect::<anyhow::Result<Vec<_>>>()?;
    let last: DnsName = format!("host{}.{ZONE}", NAMES - 1).parse().map_err(anyhow::Error::msg)?;
    while !answer(&clients[0], &last)?.ends_with(&(NAMES - 1).to_be_bytes()) {
        ensure!(began.elapsed() < IMPORT, "the zone is not served");
        // Seldom enough that its rate is no reason not to answer.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = began.elapsed().as_secs_f64();
    report.figure("a zone file of 1,000,000 records is taken in and served", took, "s", "");

    let mut samples = Vec::new();
    for i in 0..CHANGES {
        let host = i * 7919 % NAMES;
        let value = u32::MAX - 1 - i;
        let set = json!({"data": [std::net::Ipv4Addr::from(value).to_string()]});
        let name: DnsName = format!("host{host}.{ZONE}").parse().map_err(anyhow::Error::msg)?;
        let change = request(Method::PUT, &format!("{ZONE}/records/host{host}/A")).json(&set);
        let began = Instant::now();
        change.send().await?.error_for_status()?;
        for client in &clients {
            ensure!(answer(client, &name)?.ends_with(&value.to_be_bytes()), "a socket lags behind");
        }
        samples.push(began.elapsed());
    }
    let what = "DNS: API change to its answer on every socket, 1,000,000 records";
    report.quantiles(what, &mut samples, ["", "<= 20"]);
    Ok(())
}

fn client(server: SocketAddr) -> anyhow::Result<UdpSocket> {
    let client = UdpSocket::bind(("127.0.0.1", 0))?;
    client.connect(server)?;
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(client)
}

fn dns_address(log: &str) -> Option<SocketAddr> {
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut events = events.filter(|event| event["message"] == "dns listens");
    events.next()?["address"].as_str()?.parse().ok()
}
