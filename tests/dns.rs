//! Authoritative DNS: zones and records from the operator's hands to what clients are answered.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::{Value, json};
use support::{BASE, Weir, unique, upstream::Upstream, wait_for};

/// A server without an engine, that answers DNS.
async fn start() -> Weir {
    Weir::start_with(&["--docker", "/nonexistent/docker.sock", "--dns", "127.0.0.1:0"]).await
}

/// Where it answers.
fn address(weir: &Weir) -> SocketAddr {
    let log = weir.log();
    let line = log.lines().rev().find(|line| line.contains("\"dns listens\"")).unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    event["address"].as_str().unwrap().parse().unwrap()
}

/// What a client of the field is answered, a record a line; the code if there is none.
fn ask(server: SocketAddr, name: &str, rtype: &str, more: &[&str]) -> String {
    let (ip, port) = (format!("@{}", server.ip()), server.port().to_string());
    let mut kdig = Command::new("kdig");
    kdig.args([&ip, "-p", &port, name, rtype, "+norec", "+timeout=2", "+retry=1"]).args(more);
    let said = String::from_utf8(kdig.output().unwrap().stdout).unwrap();
    let header = said.lines().find(|line| line.contains("status: "));
    let code = header.map(|line| line.split("status: ").nth(1).unwrap());
    let code = code.map_or("nothing", |line| line.split(';').next().unwrap()).to_owned();
    let answer = said.split(";; ANSWER SECTION:\n").nth(1).unwrap_or_default();
    let lines = answer.lines().take_while(|line| !line.is_empty() && !line.starts_with(";;"));
    let data = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words[3..].join(" ")
    };
    let mut lines: Vec<_> = lines.map(data).collect();
    lines.sort();
    if lines.is_empty() { code } else { lines.join("\n") }
}

fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

/// Runs a command that succeeds.
#[track_caller]
fn cli(weir: &Weir, args: &[&str]) -> String {
    let done = weir.cli(args);
    assert!(done.status.success(), "{args:?}: {}\n{}", text(&done), weir.log());
    text(&done)
}

fn apply(weir: &Weir, yaml: &str) -> String {
    let done = weir.cli_with_input(&["apply", "-f", "-"], yaml);
    assert!(done.status.success(), "{}\n{}", text(&done), weir.log());
    text(&done)
}

const HTTPS: &str = "HTTPS 1 . alpn=h2";

#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_its_name_in_the_dns_from_its_binding_to_its_end() {
    let weir = start().await;
    let dns = address(&weir);
    assert_eq!(ask(dns, BASE, "SOA", &[]), "REFUSED", "nobody's zone");
    let told = apply(
        &weir,
        &format!(
            "kind: Zone\nname: {BASE}\nspec: {{addresses: [192.0.2.1, \"2001:db8::1\"]}}\n---\n\
             kind: Zone\nname: example.com\nspec: {{addresses: [192.0.2.1]}}\n"
        ),
    );
    assert!(told.contains("+ Zone/example.com  create  192.0.2.1"), "{told}");
    assert!(told.contains("Zone/example.com  ready, "), "{told}");
    assert!(ask(dns, "example.com", "SOA", &[]).starts_with("SOA ns1.example.com. hostmaster."));
    assert_eq!(ask(dns, "example.com", "NS", &["+tcp"]), "NS ns1.example.com.");
    assert_eq!(ask(dns, "ns1.example.com", "A", &[]), "A 192.0.2.1");
    assert_eq!(ask(dns, &format!("any.{BASE}"), "A", &[]), "A 192.0.2.1", "below the base domain");
    assert_eq!(ask(dns, "www.example.com", "A", &[]), "NXDOMAIN");

    let (app, upstream) = (unique("named"), Upstream::start().await);
    let spec = json!({
        "upstreams": [upstream.address.to_string()],
        "hostnames": ["www.example.com", "example.com/shop"],
    });
    weir.put_ready(&app, spec).await;
    // The change is answered once it is served.
    let port = format!(" port={}", weir.https.port());
    for (more, name) in [(&[][..], "www.example.com"), (&["+tcp"], "example.com")] {
        assert_eq!(ask(dns, name, "A", more), "A 192.0.2.1");
        assert_eq!(ask(dns, name, "HTTPS", more), format!("{HTTPS}{port}"));
    }
    assert_eq!(ask(dns, &format!("{app}.{BASE}"), "AAAA", &[]), "AAAA 2001:db8::1");

    // What is written wins, and what was there by itself returns.
    cli(&weir, &["record", "set", "example.com", "www", "A", "203.0.113.7", "--ttl", "1m"]);
    assert_eq!(ask(dns, "www.example.com", "A", &[]), "A 203.0.113.7");
    assert_eq!(ask(dns, "www.example.com", "HTTPS", &[]), "NOERROR");
    let listed = cli(&weir, &["record", "ls", "example.com"]);
    let line = |part: &str| listed.lines().any(|line| line.contains(part));
    assert!(line("custom  203.0.113.7") && line("auto    ns1.example.com."), "{listed}");
    let refused = weir.cli(&["record", "set", "example.com", "www", "CNAME", "other.example."]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("www.example.com has a CNAME, beside which"), "{refused:?}");
    cli(&weir, &["record", "delete", "example.com", "www", "A"]);
    assert_eq!(ask(dns, "www.example.com", "A", &[]), "A 192.0.2.1");

    cli(&weir, &["delete", &app]);
    assert_eq!(ask(dns, "www.example.com", "A", &[]), "NXDOMAIN");
    let metrics = weir.metrics().await;
    assert!(metrics.contains("weir_dns_responses_total"), "{metrics}");
    cli(&weir, &["zone", "delete", "example.com"]);
    assert_eq!(ask(dns, "example.com", "SOA", &[]), "REFUSED");
}

const FILE: &str = "\
$TTL 1h
@       IN SOA ns.old.example. me.old.example. 3000000000 1h 10m 1w 1m
        IN NS ns.old.example.
        MX 10 mail
mail    300 A 192.0.2.25
*.dev   TXT \"any name\" \"below\"
_sip._tcp SRV 10 5 5060 mail
odd     TYPE65280 \\# 3 0a0b0c
alias   ALIAS mail
sub     NS ns.sub
ns.sub  A 192.0.2.53
";

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_file_goes_in_and_out() {
    let weir = start().await;
    let dns = address(&weir);
    let told = cli(&weir, &["zone", "create", "example.com", "--address", "192.0.2.1"]);
    assert!(told.contains("delegate it to: ns1.example.com"), "{told}");
    let file = weir.dir.path().join("example.com.zone");
    let file = file.to_str().unwrap();
    fs::write(file, FILE.replace("A 192.0.2.25", "A 192.0.2")).unwrap();
    let refused = weir.cli(&["zone", "import", "example.com", file]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("5:1: the address: `192.0.2` is not an"), "{refused:?}");
    assert_eq!(ask(dns, "mail.example.com", "A", &[]), "NXDOMAIN", "all of it or nothing");

    fs::write(file, FILE).unwrap();
    let told = cli(&weir, &["zone", "import", "example.com", file]);
    assert!(told.contains("8 record sets imported"), "{told}");
    assert!(told.contains("left out, made by itself: example.com. NS ns.old.example."), "{told}");
    assert_eq!(ask(dns, "mail.example.com", "A", &[]), "A 192.0.2.25");
    assert_eq!(ask(dns, "a.dev.example.com", "TXT", &[]), "TXT \"any name\" \"below\"");
    assert_eq!(ask(dns, "odd.example.com", "TYPE65280", &[]), "TYPE65280 \\# 3 0A0B0C");
    let soa = ask(dns, "example.com", "SOA", &[]);
    assert!(soa.contains(" 3000000001 "), "it goes on after the file's serial: {soa}");

    let written = cli(&weir, &["zone", "export", "example.com", "--custom"]);
    fs::write(file, &written).unwrap();
    cli(&weir, &["zone", "import", "example.com", file]);
    assert_eq!(cli(&weir, &["zone", "export", "example.com", "--custom"]), written);
    let whole = cli(&weir, &["zone", "export", "example.com"]);
    assert!(whole.contains("\tSOA\tns1.example.com. hostmaster.example.com. "), "{whole}");
    assert!(whole.contains("ns1\t3600\tA\t192.0.2.1\n"), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_changes_all_sets_of_a_request_or_none() {
    let weir = start().await;
    let dns = address(&weir);
    cli(&weir, &["zone", "create", "example.com", "--address", "192.0.2.1"]);
    let path = "/v1/zones/example.com/records";
    let sets: Vec<_> = (0..300)
        .map(|i| json!({"name": format!("n{i:03}"), "type": "A", "data": ["192.0.2.9"]}))
        .collect();
    let (status, told) = weir.api("PATCH", path, Some(json!(sets))).await;
    assert_eq!((status, &told["sets"]), (200, &json!(300)), "{told:#}");
    assert_eq!(ask(dns, "n299.example.com", "A", &[]), "A 192.0.2.9");
    let bad = json!([
        {"name": "n000", "type": "A", "data": []},
        {"name": "n001", "type": "CNAME", "data": ["x."]},
    ]);
    let (status, told) = weir.api("PATCH", path, Some(bad)).await;
    assert_eq!((status, &told["errors"][0]["pointer"]), (422, &json!("/1")), "{told:#}");
    assert_eq!(ask(dns, "n000.example.com", "A", &[]), "A 192.0.2.9");

    // A list that is longer than a page has each set once.
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = weir.api("GET", &format!("{path}?limit=100{cursor}"), None).await;
        let items = page["items"].as_array().unwrap().clone();
        names.extend(items.iter().map(|set| set["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={}", next.replace('/', "%2F"));
    }
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (303, 302), "SOA and NS are of one name");

    let one = format!("{path}/n005/A");
    let found = weir.request("GET", &one).send().await.unwrap();
    let etag = found.headers()["etag"].clone();
    let put = |data: &str| weir.request("PUT", &one).json(&json!({"data": [data]}));
    let changed = put("192.0.2.10").header("If-Match", &etag).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    let late = put("192.0.2.11").header("If-Match", &etag).send().await.unwrap();
    assert_eq!(late.status(), 412);
    assert_eq!(ask(dns, "n005.example.com", "A", &[]), "A 192.0.2.10");

    // The same for many: as they were when they were listed.
    let listed = weir.request("GET", path).send().await.unwrap();
    let etag = listed.headers()["etag"].clone();
    let patch = |etag: &reqwest::header::HeaderValue, data: &str| {
        let sets = json!([{"name": "n005", "type": "A", "data": [data]}]);
        weir.request("PATCH", path).header("If-Match", etag).json(&sets).send()
    };
    let changed = patch(&etag, "192.0.2.12").await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_eq!(patch(&etag, "192.0.2.13").await.unwrap().status(), 412);
    let next = changed.headers()["etag"].clone();
    assert_eq!(patch(&next, "192.0.2.14").await.unwrap().status(), 200);
    assert_eq!(ask(dns, "n005.example.com", "A", &[]), "A 192.0.2.14");
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hands_over_the_sockets_for_dns() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(dns).unwrap();
    let weir = Weir::start_set_up(|command, _| {
        command.args(["--docker", "/nonexistent/docker.sock", "--dns", "127.0.0.1:53"]);
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "dns:dns");
        let mapping = |parent_fd, child_fd| FdMapping { parent_fd, child_fd };
        command.fd_mappings(vec![mapping(tcp.into(), 3), mapping(udp.into(), 4)]).unwrap();
    })
    .await;
    assert_eq!(address(&weir), dns);
    cli(&weir, &["zone", "create", "example.com", "--address", "192.0.2.1"]);
    for upgraded in [false, true] {
        if upgraded {
            weir.upgrade();
        }
        for more in [&[][..], &["+tcp"]] {
            assert_eq!(ask(dns, "ns1.example.com", "A", more), "A 192.0.2.1", "{upgraded}");
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let mut command = support::command(dir.path(), &[]);
    command.args(["--dns", "127.0.0.1:0"]).env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "dns");
    let alone = TcpListener::bind("127.0.0.1:0").unwrap();
    command.fd_mappings(vec![FdMapping { parent_fd: alone.into(), child_fd: 3 }]).unwrap();
    let refused = command.stderr(Stdio::piped()).output().unwrap();
    assert!(text(&refused).contains("the one for UDP is missing"), "{}", text(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_through_upgrades_and_zones_are_there_after_a_crash() {
    let weir = start().await;
    let dns = address(&weir);
    cli(&weir, &["zone", "create", "example.com", "--address", "192.0.2.1"]);
    cli(&weir, &["record", "set", "example.com", "www", "A", "192.0.2.7"]);
    let asked = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut answers = Vec::new();
        while begun.elapsed() < Duration::from_secs(4) {
            answers.push(ask(dns, "www.example.com", "A", &[]));
        }
        answers
    });
    weir.upgrade();
    let answers = asked.await.unwrap();
    assert!(answers.len() > 10 && answers.iter().all(|a| a == "A 192.0.2.7"), "{answers:?}");
    assert_eq!(address(&weir), dns, "on the same sockets");
    cli(&weir, &["record", "set", "example.com", "www", "A", "192.0.2.8"]);
    assert_eq!(ask(dns, "www.example.com", "A", &[]), "A 192.0.2.8");
    let serial = |server| {
        let soa = ask(server, "example.com", "SOA", &[]);
        soa.split(' ').nth(3).unwrap().parse::<u32>().unwrap()
    };
    let before = serial(dns);

    let weir = start_again(weir).await;
    let dns = address(&weir);
    // What was on disk is answered before the database has been read.
    assert!(ask(dns, "www.example.com", "A", &[]).starts_with("A 192.0.2."));
    wait_for("the last change", async || {
        (ask(dns, "www.example.com", "A", &[]) == "A 192.0.2.8").then_some(())
    })
    .await;
    cli(&weir, &["record", "set", "example.com", "www", "A", "192.0.2.9"]);
    assert!(serial(dns) > before, "the serial grows over a crash");
}

async fn start_again(mut weir: Weir) -> Weir {
    let serving = weir.serving_pid().to_string();
    assert!(Command::new("kill").args(["-9", &serving]).status().unwrap().success());
    weir.end().await;
    let args = ["--docker", "/nonexistent/docker.sock", "--dns", "127.0.0.1:0"];
    Weir::restart_with(weir, &args).await
}

/// A server of the field with its configuration in a directory of its own.
struct Server {
    process: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Server {
    /// `config` is given its port and its directory.
    fn start(program: &str, args: &[&str], config: impl FnOnce(u16, &str) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = dir.path().join("conf");
        fs::write(&path, config(port, dir.path().to_str().unwrap())).unwrap();
        let process = Command::new(program)
            .args(args)
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, address: ([127, 0, 0, 1], port).into(), dir }
    }

    async fn wait_for_answer(&self, name: &str, rtype: &str, expected: &str) {
        wait_for(&format!("{expected} in {}", self.dir.path().display()), async || {
            (ask(self.address, name, rtype, &["+rec"]) == expected).then_some(())
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=";

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_follows_each_change_with_a_key_that_nobody_else_sees() {
    let weir = start().await;
    let dns = address(&weir);
    let nsd = Server::start("nsd", &["-d"], |port, dir| {
        format!(
            "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  zonesdir: \"{dir}\"\n  \
             database: \"\"\n  pidfile: \"{dir}/pid\"\n  xfrdfile: \"{dir}/xfrd\"\n  \
             zonelistfile: \"{dir}/zones\"\n  xfrdir: \"{dir}\"\n  server-count: 1\n  \
             logfile: \"{dir}/log\"\n  rrl-ratelimit: 0\n\
             remote-control:\n  control-enable: no\n\
             key:\n  name: transfer.key\n  algorithm: hmac-sha256\n  secret: \"{SECRET}\"\n\
             zone:\n  name: example.com\n  zonefile: \"{dir}/example.com.zone\"\n  \
             allow-notify: 127.0.0.1 transfer.key\n  \
             request-xfr: 127.0.0.1@{} transfer.key\n",
            dns.port()
        )
    });
    let zone = |secret: &str| {
        format!(
            "kind: Zone\nname: example.com\nspec:\n  addresses: [192.0.2.1]\n  secondaries:\n  \
             - {{address: \"{}\", key: {{name: transfer.key{secret}}}}}\n",
            nsd.address
        )
    };
    let refused = weir.cli_with_input(&["apply", "-f", "-"], &zone(""));
    assert!(text(&refused).contains("no secret of this key is known yet"), "{refused:?}");
    let told = apply(&weir, &zone(&format!(", secret: \"{SECRET}\"")));
    assert!(!told.contains(SECRET), "{told}");
    assert!(apply(&weir, &zone("")).contains("= Zone/example.com  unchanged"), "it is kept");
    nsd.wait_for_answer("ns1.example.com", "A", "A 192.0.2.1").await;
    cli(&weir, &["record", "set", "example.com", "www", "A", "192.0.2.7"]);
    nsd.wait_for_answer("www.example.com", "A", "A 192.0.2.7").await;
    cli(&weir, &["secret", "rotate-key"]);
    cli(&weir, &["record", "set", "example.com", "www", "A", "192.0.2.8"]);
    nsd.wait_for_answer("www.example.com", "A", "A 192.0.2.8").await;

    let stranger = ask(dns, "example.com", "AXFR", &[]);
    assert!(!stranger.contains("192.0.2.8"), "{stranger}");
    for path in ["/v1/zones/example.com", "/v1/operations", "/v1/audit"] {
        let (_, shown) = weir.api("GET", path, None).await;
        assert!(!shown.to_string().contains(SECRET), "{path}: {shown:#}");
    }
    assert!(!weir.log().contains(SECRET));
    // After a restart it is opened again.
    let args = ["--docker", "/nonexistent/docker.sock", "--dns", &dns.to_string()];
    let weir = Weir::restart_with(stopped(weir), &args).await;
    cli(&weir, &["record", "set", "example.com", "www", "A", "192.0.2.9"]);
    nsd.wait_for_answer("www.example.com", "A", "A 192.0.2.9").await;
}

fn stopped(mut weir: Weir) -> Weir {
    weir.terminate();
    weir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_finds_names_through_us() {
    let weir = start().await;
    let dns = address(&weir);
    cli(&weir, &["zone", "create", "example.com", "--address", "192.0.2.1"]);
    cli(&weir, &["record", "set", "example.com", "www", "CNAME", "real.example.com."]);
    cli(&weir, &["record", "set", "example.com", "real", "A", "192.0.2.7"]);
    let unbound = Server::start("unbound", &["-d"], |port, dir| {
        format!(
            "server:\n  interface: 127.0.0.1\n  port: {port}\n  do-daemonize: no\n  \
             username: \"\"\n  chroot: \"\"\n  directory: \"{dir}\"\n  pidfile: \"{dir}/pid\"\n  \
             use-syslog: no\n  logfile: \"{dir}/log\"\n  do-not-query-localhost: no\n  \
             module-config: \"iterator\"\n  use-caps-for-id: yes\n  num-threads: 1\n\
             stub-zone:\n  name: example.com\n  stub-addr: 127.0.0.1@{}\n",
            dns.port()
        )
    });
    let expected = "A 192.0.2.7\nCNAME real.example.com.";
    unbound.wait_for_answer("www.example.com", "A", expected).await;
    unbound.wait_for_answer("nobody.example.com", "A", "NXDOMAIN").await;
    unbound.wait_for_answer("real.example.com", "AAAA", "NOERROR").await;
}
