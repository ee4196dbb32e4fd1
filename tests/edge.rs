//! Apps on devices: real engines in networks of their own, with the agent that connects to Weir.

#![allow(clippy::unwrap_used)] // Also in what the tests share, a panic is a failed test.

mod support;

use std::{fs, time::Instant};

use serde_json::{Value, json};
use support::{
    Weir,
    device::{DEVICES, Device, host_state, incarnations, invite, join, on, told, wait_for_host},
    spec, unique, wait_for,
    websocket::WebSocket,
};

#[tokio::test]
async fn an_app_on_a_device_is_served_goes_on_when_that_is_cut_off_and_is_as_it_was_on_return() {
    let [mut device] = Device::start_all(["pi-a"]);
    let weir = Weir::start_with(&DEVICES).await;
    weir.ready().await;
    join(&weir, &device).await;
    let elsewhere = unique("cloud");
    weir.put_ready(&elsewhere, spec(json!({}))).await;
    assert!(device.machine.running().is_empty(), "nothing is placed on a device by chance");

    let app = unique("edge");
    weir.put_ready(&app, on(&device)).await;
    assert_eq!(device.machine.running().len(), 1);
    let (status, page) = weir.get(&app, "/").await;
    assert_eq!(status, 200, "{page}\n{}", weir.log());
    let memory = device.memory();
    assert!(memory <= 15 << 20, "the agent uses {} KiB", memory >> 10);
    println!("the agent uses {} KiB", memory >> 10);
    weir.get(&app, "/stdout?text=here").await;
    let logs = told(&weir.cli(&["logs", &app]));
    assert!(logs.contains("here"), "{logs}");
    let before = incarnations(&device);
    let mut socket = WebSocket::open(&weir, &app).await;
    assert_eq!(socket.echo("one").await, "one");
    weir.upgrade();
    assert_eq!(socket.echo("two").await, "two", "by the former connection");
    wait_for_host(&weir, &device, "ready").await;
    assert_eq!(weir.get(&app, "/").await.0, 200, "by the new one");
    drop(socket);
    // Refused until the former process has told that nobody uses it any more.
    wait_for("it to sleep", async || weir.cli(&["sleep", &app]).status.success().then_some(()))
        .await;
    let paused = device.machine.docker(&["ps", "--filter", "status=paused", "--quiet"]);
    assert!(!paused.is_empty(), "it is frozen there");
    assert_eq!(weir.get(&app, "/").await.0, 200, "woken by the request");

    device.machine.cut_off();
    wait_for_host(&weir, &device, "disconnected").await;
    wait_for("its page to say so", async || {
        let (status, page) = weir.get(&app, "/").await;
        assert_ne!(status, 200, "nobody can have answered: {page}");
        (status == 503).then_some(())
    })
    .await;
    assert!(device.ask("/").is_some(), "it goes on where it is");
    device.machine.connect();
    let since = Instant::now();
    wait_for("its return", async || (weir.get(&app, "/").await.0 == 200).then_some(())).await;
    println!("answers {:?} after the return", since.elapsed());
    wait_for_host(&weir, &device, "ready").await;
    assert_eq!(incarnations(&device), before, "nothing was restarted");

    // A power cut while it is cut off: nobody can tell it what to run.
    device.machine.cut_off();
    device.kill_agent();
    device.machine.restart_engine();
    let id = device.machine.docker(&["ps", "--all", "--quiet"]);
    device.machine.docker(&["rm", "--force", &id]);
    assert_eq!(device.ask("/"), None);
    device.run();
    wait_for("the app without control", async || device.ask("/")).await;
    let before = incarnations(&device);
    device.machine.connect();
    wait_for("its return", async || (weir.get(&app, "/").await.0 == 200).then_some(())).await;
    weir.wait_for_phase(&app, "ready").await;
    assert_eq!(incarnations(&device), before, "nothing was restarted");

    weir.api("DELETE", &format!("/v1/apps/{app}"), None).await;
    wait_for("its end", async || device.machine.running().is_empty().then_some(())).await;
}

#[tokio::test]
async fn an_invitation_is_good_once_and_a_revoked_device_is_refused_at_once() {
    let [first, second] = Device::start_all(["pi-b", "pi-c"]);
    let weir = Weir::start_with(&DEVICES).await;
    weir.ready().await;
    let token = invite(&weir, &["--label", "site=here"]);
    // Both claim it at once; one of them gets it.
    let outputs = std::thread::scope(|scope| {
        let claims = [&first, &second].map(|device| {
            let (weir, token) = (&weir, &token);
            scope.spawn(move || device.enrol(weir, token))
        });
        claims.map(|claim| claim.join().unwrap())
    });
    let won = outputs.iter().filter(|output| output.status.success()).count();
    assert_eq!(won, 1, "{} {}", told(&outputs[0]), told(&outputs[1]));
    let (winner, loser) = match outputs[0].status.success() {
        true => (&first, &second),
        false => (&second, &first),
    };
    let again = told(&loser.enrol(&weir, &token));
    assert!(again.contains("used by another device"), "{again}");
    let again = told(&winner.enrol(&weir, &token));
    assert!(again.contains("enrolled already"), "{again}");
    // The answer was lost on its way: who asks again with its own key gets it again.
    fs::remove_file(winner.file("identity.json")).unwrap();
    assert!(winner.enrol(&weir, &token).status.success());

    let late = invite(&weir, &["--ttl", "1ms"]);
    let refused = told(&loser.enrol(&weir, &late));
    assert!(refused.contains("expired"), "{refused}");
    let forged = format!("{}.{}", token.split_once('.').unwrap().0, "0".repeat(32));
    let refused = told(&loser.enrol(&weir, &forged));
    assert!(refused.contains("not known"), "{refused}");
    let elsewhere = format!("{}.{}", "0".repeat(64), token.split_once('.').unwrap().1);
    let refused = told(&loser.enrol(&weir, &elsewhere));
    assert!(refused.contains("not who made the invitation"), "{refused}");

    winner.run();
    wait_for_host(&weir, winner, "ready").await;
    let name = &winner.machine.name;
    let shown = told(&weir.cli(&["device", "ls"]));
    assert!(shown.contains("connected") && shown.contains("site=here"), "{shown}");
    let shown = told(&weir.cli(&["device", "show", name]));
    assert!(shown.contains("Docker 20"), "{shown}");

    let renamed = weir.cli(&["device", "rename", name, "kitchen"]);
    assert!(renamed.status.success(), "{}", told(&renamed));
    wait_for("it by its new name", async || {
        (host_state(&weir, "kitchen").await == "ready").then_some(())
    })
    .await;
    assert_eq!(host_state(&weir, name).await, "none", "the former name is nobody's");
    let name = "kitchen";
    let app = unique("renamed");
    let mut spec = spec(json!({}));
    spec["placement"] = json!({"hosts": {"device": name}});
    weir.put_ready(&app, spec).await;
    let refused = weir.cli(&["device", "rename", name, "cellar"]);
    assert!(told(&refused).contains("drain it first"), "{}", told(&refused));

    let revoked = told(&weir.cli(&["device", "revoke", name]));
    assert!(revoked.contains("revoked"), "{revoked}");
    wait_for("it to be cut off", async || (host_state(&weir, name).await != "ready").then_some(()))
        .await;
    let shown = told(&weir.cli(&["device", "ls"]));
    assert!(shown.contains("revoked") && !shown.contains("connected"), "{shown}");
    fs::remove_file(winner.file("identity.json")).unwrap();
    let refused = told(&winner.enrol(&weir, &invite(&weir, &[])));
    assert!(refused.contains("was revoked"), "{refused}");
    let log = winner.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_device_refuses_a_control_of_the_past_and_keeps_what_it_runs_when_its_file_is_damaged() {
    let [mut device] = Device::start_all(["pi-d"]);
    let weir = Weir::start_with(&DEVICES).await;
    weir.ready().await;
    join(&weir, &device).await;
    let app = unique("kept");
    weir.put_ready(&app, on(&device)).await;
    device.machine.restart_engine();
    wait_for("the app after its engine", async || device.ask("/")).await;
    weir.wait_for_phase(&app, "ready").await;
    let before = incarnations(&device);

    device.kill_agent();
    fs::write(device.file("slice.json"), "{").unwrap();
    device.run();
    wait_for_host(&weir, &device, "ready").await;
    wait_for("the app", async || (weir.get(&app, "/").await.0 == 200).then_some(())).await;
    assert_eq!(incarnations(&device), before);
    assert!(device.log().contains("set aside"), "{}", device.log());
    wait_for("its start to be noted anew", async || {
        let shown = told(&device.command(&["show"]).output().unwrap());
        shown.contains("Running").then_some(())
    })
    .await;

    // A control whose state directory was restored from before counts less than the device knows.
    device.kill_agent();
    let file = device.file("slice.json");
    let mut slice: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    slice["epoch"] = json!(slice["epoch"].as_u64().unwrap() + 10);
    fs::write(&file, slice.to_string()).unwrap();
    device.run();
    wait_for("it to be refused", async || {
        (host_state(&weir, "pi-d").await != "ready").then_some(())
    })
    .await;
    assert!(device.ask("/").is_some(), "it goes on");
    assert_eq!(incarnations(&device), before);
}
