//! From start to stop, and from one program to the next.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, fs::symlink, net::UnixDatagram},
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::json;
use support::{
    Weir, containers, incarnation, load::Load, spec, unique, upstream::Upstream, wait_for,
    websocket::WebSocket,
};

/// Far below any grace that the tests set, and far above what an end takes.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A server with one app, whose requests an upstream answers.
async fn start(args: &[&str]) -> (Weir, String, Upstream) {
    let weir = Weir::start_with(args).await;
    let (app, upstream) = serve_upstream(&weir).await;
    (weir, app, upstream)
}

async fn serve_upstream(weir: &Weir) -> (String, Upstream) {
    let upstream = Upstream::start().await;
    let app = unique("steady");
    weir.put_ready(&app, json!({"upstreams": [upstream.address.to_string()]})).await;
    (app, upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_through_upgrades() {
    let (mut weir, app, upstream) = start(&[]).await;
    let load = Load::start(&weir, &app);
    for _ in 0..5 {
        load.go_on(200).await;
        let before = weir.serving_pid();
        weir.upgrade();
        assert_ne!(weir.serving_pid(), before);
    }
    load.go_on(200).await;
    let report = load.stop(&upstream).await;
    println!("{} requests", report.sent);
    assert!(report.failures.is_empty(), "{report:#?}\n{}", weir.log());
    assert!(report.twice.is_empty(), "{report:#?}");
    weir.end().await;
}

/// What the test before this one is worth: the same load notices when there is a gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_are_noticed_by_the_same_load() {
    let (mut weir, app, upstream) = start(&[]).await;
    let load = Load::start(&weir, &app);
    load.go_on(200).await;
    let https = weir.https.to_string();
    weir.terminate();
    let weir = Weir::restart_with(weir, &["--https", &https]).await;
    load.go_on(200).await;
    let report = load.stop(&upstream).await;
    assert!(!report.failures.is_empty(), "{} requests and no failure: {}", report.sent, weir.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_stays_where_it_is_and_its_process_ends_with_it() {
    let (mut weir, app, _upstream) = start(&["--shutdown-grace", "60s"]).await;
    let mut socket = WebSocket::open(&weir, &app).await;
    weir.upgrade();
    assert_eq!(socket.echo("still here").await, "still here");
    assert_eq!(weir.get(&app, "/").await.0, 200, "by the new process");
    // The new process knows of what is in flight in the former one.
    in_flight(&weir, &app, 1).await;
    assert_eq!(socket.echo("and still").await, "and still");
    assert!(weir.ended().is_none(), "{}", weir.log());

    drop(socket);
    let closed = Instant::now();
    in_flight(&weir, &app, 0).await;
    assert!(weir.end().await.success(), "{}", weir.log());
    assert!(closed.elapsed() < AT_ONCE, "{:?}\n{}", closed.elapsed(), weir.log());
}

/// Waits until an app has so many requests in flight, as the API tells.
async fn in_flight(weir: &Weir, app: &str, wanted: u64) {
    wait_for(&format!("{wanted} in flight"), async || {
        let (_, shown) = weir.api("GET", &format!("/v1/apps/{app}"), None).await;
        (shown["status"]["requests_in_flight"] == wanted).then_some(())
    })
    .await;
}

/// Puts a shell script where the program was.
fn replace(program: &Path, script: &str) {
    let fresh = program.with_extension("new");
    fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(fresh, program).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upgrade_leaves_the_old_process_serving_and_able_to_change() {
    let real = env!("CARGO_BIN_EXE_weir");
    let weir = Weir::start_set_up(|command, dir| {
        let program = dir.join("weir");
        symlink(real, &program).unwrap();
        let mut renamed = std::process::Command::new(program);
        renamed.args(command.get_args());
        renamed.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        *command = renamed;
    })
    .await;
    let (app, upstream) = serve_upstream(&weir).await;
    let before = weir.serving_pid();
    let program = weir.dir.path().join("weir");
    // With its log, from which SQLite would read on.
    let database = ["weir.db", "weir.db-wal", "weir.db-shm"].map(|name| weir.state.join(name));
    let kept = |file: &Path| PathBuf::from(format!("{}.kept", file.display()));

    let failing = [
        ("echo no such library >&2; exit 7".to_owned(), &["exit status: 7", "no such library"]),
        ("exec sleep 1000".to_owned(), &["not ready in 1s", ""]),
        (format!("exec {real} \"$@\" --threads 0"), &["exit status: 2", "write 1 to 1024"]),
        (format!("exec {real} \"$@\" --no-such-flag"), &["exit status: 1", "--no-such-flag"]),
        (format!("exec {real} \"$@\" --state-dir /elsewhere"), &["/elsewhere", ""]),
        (
            format!("exec {real} \"$@\" # and a database that is none"),
            &["the database in the state directory", "not a database"],
        ),
    ];
    for (script, reasons) in failing {
        replace(&program, &script);
        let damaged = script.contains("database");
        if damaged {
            database.iter().for_each(|file| fs::rename(file, kept(file)).unwrap());
            fs::write(&database[0], "not a database\n".repeat(1000)).unwrap();
        }
        let load = Load::start(&weir, &app);
        let ready_within = if script.contains("sleep") { "1s" } else { "60s" };
        let upgraded = weir.cli(&["upgrade", "--ready-within", ready_within]);
        let told = String::from_utf8(upgraded.stderr).unwrap();
        assert_eq!(upgraded.status.code(), Some(3), "{script}: {told}");
        for reason in reasons {
            assert!(told.contains(reason), "{script}: {told}");
            let logged = async || weir.log().contains(reason).then_some(());
            wait_for(&format!("`{reason}` in the log"), logged).await;
        }
        if damaged {
            database.iter().for_each(|file| fs::rename(kept(file), file).unwrap());
        }
        let report = load.stop(&upstream).await;
        assert!(report.failures.is_empty(), "{script}: {report:#?}");
        assert_eq!(weir.serving_pid(), before);
        serve_upstream(&weir).await;
    }
    // And as soon as there is a program that works, it takes over.
    replace(&program, &format!("exec {real} \"$@\""));
    weir.upgrade();
    assert_ne!(weir.serving_pid(), before);
    assert_eq!(weir.get(&app, "/").await.0, 200);
}

/// The new process is ready, and then finds that somebody else has the state directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_that_fails_half_way_is_taken_back() {
    let (weir, app, upstream) = start(&[]).await;
    let load = Load::start(&weir, &app);
    let lock = fs::File::open(weir.state.join("serve.lock")).unwrap();
    let (steal, mut stolen) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // There is a moment between the two processes in which nobody has the lock.
        while !steal.is_closed() && lock.try_lock().is_err() {
            std::hint::spin_loop();
        }
        let _ = steal.send(lock);
    });
    // On a busy machine the moment may be missed, and the upgrade done.
    let (before, upgrade, stolen) = loop {
        let before = weir.serving_pid();
        let dir = weir.state.clone();
        let mut upgrade = tokio::task::spawn_blocking(move || {
            let mut weir = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
            weir.arg("upgrade").env("WEIR_STATE_DIR", dir).output().unwrap()
        });
        tokio::select! {
            stolen = &mut stolen => break (before, upgrade, stolen.unwrap()),
            upgraded = &mut upgrade => assert!(upgraded.unwrap().status.success()),
        }
    };
    wait_for("the state to be missed", async || {
        weir.log().contains("cannot be taken back").then_some(())
    })
    .await;
    load.go_on(200).await;
    drop(stolen);
    let upgraded = upgrade.await.unwrap();
    let told = String::from_utf8(upgraded.stderr).unwrap();
    assert_eq!(upgraded.status.code(), Some(3), "{told}\n{}", weir.log());
    assert!(told.contains("could not take over") && told.contains("is used by another"), "{told}");
    assert_eq!(weir.serving_pid(), before);
    let report = load.stop(&upstream).await;
    assert!(report.failures.is_empty(), "{report:#?}");
    serve_upstream(&weir).await;
    weir.upgrade();
    assert_ne!(weir.serving_pid(), before);
}

/// Hears what systemd would be told. All of it at once: who tells waits for room to do so.
struct Systemd(mpsc::Receiver<String>);

impl Systemd {
    fn listen(socket: UnixDatagram) -> Self {
        let (heard, messages) = mpsc::channel();
        std::thread::spawn(move || {
            let mut message = [0; 1024];
            while let Ok(length) = socket.recv(&mut message) {
                let message = String::from_utf8(message[..length].to_vec()).unwrap();
                if heard.send(message).is_err() {
                    return;
                }
            }
        });
        Self(messages)
    }

    /// The next message with a line that begins so.
    async fn told(&self, wanted: &str) -> String {
        let is_it = |message: &String| message.lines().any(|line| line.starts_with(wanted));
        let what = format!("systemd to be told {wanted}");
        wait_for(&what, async || self.0.try_iter().find(is_it)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hands_over_sockets_and_is_told_how_it_goes() {
    let sockets = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [http, https] = [&sockets[0], &sockets[1]].map(|socket| socket.local_addr().unwrap());
    let mut systemd = None;
    let mut weir = Weir::start_set_up(|command, dir| {
        let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
        command.env("NOTIFY_SOCKET", dir.join("notify")).env("WATCHDOG_USEC", "300000");
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "https:http");
        let [http, https] = sockets;
        let mapping = |parent_fd, child_fd| FdMapping { parent_fd, child_fd };
        command.fd_mappings(vec![mapping(https.into(), 3), mapping(http.into(), 4)]).unwrap();
        systemd = Some(Systemd::listen(socket));
    })
    .await;
    let systemd = systemd.unwrap();
    assert_eq!((weir.http, weir.https), (http, https));
    systemd.told("READY=1").await;
    systemd.told("WATCHDOG=1").await;
    let (app, _upstream) = serve_upstream(&weir).await;
    assert_eq!(weir.get(&app, "/").await.0, 200);

    weir.upgrade();
    systemd.told("RELOADING=1").await;
    let handed_over = systemd.told("MAINPID=").await;
    let main = format!("MAINPID={}\n", weir.serving_pid());
    assert!(handed_over.contains(&main) && handed_over.contains("READY=1"), "{handed_over}");
    weir.end().await;
    systemd.told("WATCHDOG=1").await;
    assert_eq!(weir.get(&app, "/").await.0, 200);
    let successor = weir.serving_pid().to_string();
    assert!(std::process::Command::new("kill").arg(&successor).status().unwrap().success());
    systemd.told("STOPPING=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_with_a_name_that_says_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = support::command(dir.path(), &[]);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "weir.socket");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mapping = FdMapping { parent_fd: socket.into(), child_fd: 3 };
    command.fd_mappings(vec![mapping]).unwrap();
    let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("weir.socket") && error.contains("FileDescriptorName="), "{error}");
}

/// A server with a request in flight that does not end by itself.
async fn with_request_in_flight(
    grace: &str,
) -> (Weir, String, Upstream, tokio::task::JoinHandle<reqwest::Result<reqwest::Response>>) {
    let (weir, app, upstream) = start(&["--shutdown-grace", grace]).await;
    let request = tokio::spawn(weir.client().get(weir.url(&app, "/held")).send());
    in_flight(&weir, &app, 1).await;
    (weir, app, upstream, request)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_as_soon_as_the_last_request_has() {
    let (mut weir, _, upstream, request) = with_request_in_flight("60s").await;
    weir.signal("TERM");
    wait_for("the drain", async || weir.log().contains("draining").then_some(())).await;
    // Longer than a stop takes that waits for nobody: twice the lame duck.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(weir.ended().is_none(), "{}", weir.log());
    upstream.release();
    let released = Instant::now();
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
    assert!(weir.end().await.success());
    assert!(released.elapsed() < AT_ONCE, "{:?}", released.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_of_a_stop_what_is_cut_off_is_told() {
    let (mut weir, app, _upstream, request) = with_request_in_flight("300ms").await;
    weir.signal("TERM");
    assert!(weir.end().await.success());
    assert!(request.await.unwrap().is_err());
    let told = weir.log().lines().any(|line| line.contains("cut off") && line.contains(&app));
    assert!(told, "{}", weir.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_a_second_time_it_ends_at_once() {
    let (mut weir, _, _upstream, _request) = with_request_in_flight("60s").await;
    weir.signal("INT");
    wait_for("the drain", async || weir.log().contains("draining").then_some(())).await;
    let again = Instant::now();
    weir.signal("INT");
    assert!(weir.end().await.success());
    assert!(again.elapsed() < AT_ONCE, "{:?}", again.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_sleep_and_wake_through_an_upgrade_as_if_there_were_none() {
    let weir = Weir::start().await;
    let (awake, asleep, waking) = (unique("awake"), unique("asleep"), unique("waking"));
    weir.put_ready(&awake, spec(json!({}))).await;
    let sleep = json!({"pause_after": "200ms", "stop_after": null, "min_awake": "0s"});
    weir.put_ready(&asleep, spec(json!({"sleep": sleep}))).await;
    let sleep = json!({"pause_after": null, "stop_after": "1h", "min_awake": "0s"});
    let slow = json!({"sleep": sleep, "env": {"START_DELAY_MS": "1500"}});
    weir.put_ready(&waking, spec(slow)).await;
    let sleep = format!("/v1/apps/{waking}/actions/sleep?wait=60s");
    weir.api("POST", &sleep, Some(json!({"level": "stopped"}))).await;
    weir.wait_for_phase(&waking, "stopped").await;
    weir.wait_for_phase(&asleep, "paused").await;
    let before = (incarnation(&awake), incarnation(&asleep));

    // It is held by this process, and what it waits for is done by the next.
    let held = tokio::spawn(weir.client().get(weir.url(&waking, "/")).send());
    wait_for("the request to be held", async || {
        weir.metrics().await.contains("weir_requests_held{").then_some(())
    })
    .await;
    weir.upgrade();
    weir.ready().await;
    let answer = held.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200, "{}", weir.log());
    assert_eq!(weir.phase(&awake).await, "ready");
    assert_eq!(weir.phase(&asleep).await, "paused", "{}", weir.log());
    assert_eq!((incarnation(&awake), incarnation(&asleep)), before);
    assert_eq!(weir.get(&asleep, "/").await.0, 200);
    assert_eq!((incarnation(&awake), incarnation(&asleep)), before);
    assert!(containers(&waking).values().all(|state| state == "running"), "{}", weir.log());
}
