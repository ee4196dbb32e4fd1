//! What runs on devices, seen from the API and from other apps.

#![allow(clippy::unwrap_used)] // Also in what the tests share, a panic is a failed test.

mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, thread};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{
    Weir,
    device::{DEVICES, Device, enrol, incarnations, join, on, program, told, wait_for_host},
    image, spec, unique, wait_for,
};

/// What an app is answered by another one that it calls.
async fn call(weir: &Weir, from: &str, app: &str, path: &str) -> String {
    weir.get(from, &format!("/fetch?url=http://{app}.weir.internal{path}")).await.1
}

#[tokio::test]
async fn an_app_on_a_device_calls_those_that_allow_it_wherever_they_are() {
    let [here, there] = Device::start_all(["pi-e", "pi-f"]);
    let weir = Weir::start_with(&DEVICES).await;
    weir.ready().await;
    for device in [&here, &there] {
        join(&weir, device).await;
    }
    let [caller, cloud, far, shut] = ["caller", "cloud", "far", "shut"].map(unique);
    let mut spec_far = on(&there);
    spec_far["private"] = json!({"allow": [caller]});
    weir.put_ready(&far, spec_far).await;
    weir.put_ready(&cloud, spec(json!({"private": {"allow": [caller]}, "env": {"NAME": "cloud"}})))
        .await;
    weir.put_ready(&shut, spec(json!({"private": {"allow": [cloud]}}))).await;
    let mut spec_caller = on(&here);
    spec_caller["private"] = json!({"calls": [cloud, far, shut]});
    weir.put_ready(&caller, spec_caller).await;

    let listens = || here.log().contains("apps here may call others");
    wait_for("the agent to take calls", async || listens().then_some(())).await;
    let answer = call(&weir, &caller, &cloud, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}\n{}", here.log(), weir.log());
    assert!(answer.contains("hello from cloud"), "{answer}");
    let answer = call(&weir, &caller, &far, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = call(&weir, &caller, &cloud, "/echo").await;
    let seen = seen.to_ascii_lowercase();
    assert!(seen.contains(&format!("host: {cloud}.weir.internal")), "{seen}");
    assert!(seen.contains("x-forwarded-for: 172.30.0."), "{seen}");
    let refused = call(&weir, &caller, &shut, "/").await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    // The other one calls nobody, so nothing listens for it.
    assert!(!there.log().contains("apps here may call others"), "{}", there.log());
    // Nobody comes in by a private name from outside.
    let outside = weir.client_builder().resolve(&format!("{cloud}.weir.internal"), weir.http);
    let url = format!("http://{cloud}.weir.internal:{}/", weir.http.port());
    let answer = outside.build().unwrap().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 308, "as any name over plain HTTP");

    wait_for("it to sleep", async || weir.cli(&["sleep", &cloud]).status.success().then_some(()))
        .await;
    let answer = call(&weir, &caller, &cloud, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "the call has woken it: {answer}");

    let found = told(&weir.cli(&["discover", &far]));
    assert!(found.contains("pi-f (device)") && found.contains("ready"), "{found}");
    assert!(found.contains(&format!("http://{far}.weir.internal/")), "{found}");
    let (_, found) = weir.api("GET", "/v1/discovery", None).await;
    let of = |app: &str| found["items"].as_array().unwrap().iter().find(|i| i["app"] == *app);
    assert_eq!(of(&far).unwrap()["allow"], json!([caller]));
    assert_eq!(of(&caller).unwrap()["places"][0]["device"], json!(true));
    assert_eq!(of(&caller).unwrap().get("private_url"), None);
    assert_eq!(of(&cloud).unwrap()["places"][0]["host"], json!("local"));
    let placed = told(&weir.cli(&["discover", "--host", "pi-e"]));
    assert!(placed.contains(&caller) && !placed.contains(&far), "{placed}");

    here.machine.cut_off();
    wait_for("the agent to know", async || {
        let answer = here.ask(&format!("/fetch?url=http://{cloud}.weir.internal/"))?;
        answer.starts_with("HTTP/1.1 503").then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_knows_another_orchestrator_s_calls_deploys_finds_stops_and_deletes() {
    let [device] = Device::start_all(["pi-g"]);
    let weir = Weir::start_with(&DEVICES).await;
    weir.ready().await;
    join(&weir, &device).await;
    let app = unique("edge");
    weir.adopt(&app);
    let post = async |path: &str, body: Value| {
        let path = format!("/v1/edge/{path}?wait=60s");
        weir.api("POST", &path, Some(body)).await
    };
    let mut asked = json!({"device": "nobody", "image": image(), "name": app});
    assert_eq!(post("deploy_to_edge", asked.clone()).await.0, 404);
    asked["device"] = json!("pi-g");
    asked["env"] = json!({"NAME": "first"});
    let (status, made) = post("deploy_to_edge", asked.clone()).await;
    assert_eq!(status, 201, "{made:#}");
    assert_eq!(made["status"]["phase"], "ready", "{made:#}");
    assert!(weir.get(&app, "/").await.1.contains("hello from first"));
    // Again, with something else: what was written before stays.
    asked["env"] = json!({"VERSION": "2"});
    assert_eq!(post("deploy_to_edge", asked.clone()).await.0, 200);
    let page = weir.get(&app, "/").await.1;
    assert!(page.contains("hello from first, version 2"), "{page}");
    let elsewhere = unique("cloud");
    weir.put_ready(&elsewhere, spec(json!({}))).await;
    asked["name"] = json!(elsewhere);
    assert_eq!(post("deploy_to_edge", asked).await.0, 409, "it runs elsewhere");

    let (_, address) = weir.api("GET", &format!("/v1/edge/get_address/{app}"), None).await;
    assert_eq!(address["url"], format!("{}", weir.url(&app, "/")));
    assert_eq!(address["places"][0]["host"], "pi-g");
    let health = async || weir.api("GET", "/v1/edge/health_check/pi-g", None).await.1;
    let well = health().await;
    assert_eq!(well["healthy"], true, "{well:#}");
    assert!(well["containers"].as_array().unwrap().iter().any(|c| c["name"] == *app), "{well:#}");

    wait_for("it to stop", async || {
        (post(&format!("stop_container/{app}"), Value::Null).await.0 == 202).then_some(())
    })
    .await;
    weir.wait_for_phase(&app, "stopped").await;
    // What is kept for a rollback is frozen.
    assert_eq!(device.machine.docker(&["ps", "--quiet", "--filter", "status=running"]), "");
    assert_eq!(post(&format!("delete_container/{app}"), Value::Null).await.0, 202);
    wait_for("it to be gone", async || {
        health().await["containers"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    device.kill_agent();
    wait_for("it to be missed", async || (health().await["healthy"] == false).then_some(())).await;
    assert_eq!(weir.api("GET", "/v1/edge/health_check/nobody", None).await.0, 404);
}

/// A program that becomes another one, and its digest.
fn write_program(dir: &Path, name: &str, script: &str) -> (String, String) {
    let file = dir.join(name);
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    let digest = Sha256::digest(script).iter().map(|byte| format!("{byte:02x}")).collect();
    (file.to_str().unwrap().to_owned(), digest)
}

#[tokio::test]
async fn an_agent_becomes_the_program_it_is_sent_and_the_former_one_if_that_does_not_come_back() {
    let [mut device] = Device::start_all(["pi-h"]);
    device.set("WEIR_AGENT_TRIAL", "2s");
    let weir = Weir::start_with(&DEVICES).await;
    weir.ready().await;
    join(&weir, &device).await;
    let app = unique("kept");
    weir.put_ready(&app, on(&device)).await;
    let before = incarnations(&device);
    let dir = tempfile::tempdir().unwrap();
    let update = |file: &str| weir.cli(&["device", "update", "pi-h", "--file", file]);
    let shown = || told(&weir.cli(&["device", "show", "pi-h"]));

    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", program().display());
    let (good, digest) = write_program(dir.path(), "good", &script);
    let wrong = weir.cli(&["device", "update", "pi-h", "--file", &good, "--sha256", "00"]);
    assert!(told(&wrong).contains("another program"), "{}", told(&wrong));
    let updated = update(&good);
    assert!(updated.status.success(), "{}\n{}", told(&updated), device.log());
    assert!(shown().contains(&format!("updated to {digest}")), "{}", shown());

    // One that ends by itself, one that is no program, and one that does nothing: the system starts
    // the agent again, as here the test does.
    for (name, script) in [
        ("ends", "#!/bin/sh\nexit 1\n"),
        ("no-program", "\u{7f}ELF, but not really"),
        ("hangs", "#!/bin/sh\nexec sleep 1000\n"),
    ] {
        let (bad, bad_digest) = write_program(dir.path(), name, script);
        let refused = thread::scope(|scope| {
            let updating = scope.spawn(|| update(&bad));
            while !updating.is_finished() {
                if device.has_ended() {
                    device.run();
                }
                thread::sleep(std::time::Duration::from_millis(20));
            }
            updating.join().unwrap()
        });
        assert_eq!(refused.status.code(), Some(3), "{name}: {}\n{}", told(&refused), device.log());
        assert!(told(&refused).contains("went back"), "{}", told(&refused));
        let shown = shown();
        assert!(shown.contains(&format!("updated to {digest}")), "{name}: {shown}");
        assert!(shown.contains(&format!("not updated: {bad_digest}")), "{name}: {shown}");
    }
    assert_eq!(incarnations(&device), before, "what runs there was not touched");
    device.kill_agent();
    let nobody = update(&good);
    assert!(!nobody.status.success() && told(&nobody).contains("not connected"), "{nobody:?}");
}

#[tokio::test]
async fn a_device_without_a_clock_or_with_a_full_disk_is_a_device_all_the_same() {
    let [mut device] = Device::start_all(["pi-i"]);
    // With enough room for ballast.
    const DISK: u64 = 320 << 20;
    device.keep_on_small_disk(DISK);
    let clock = "/usr/$LIB/faketime/libfaketime.so.1";
    device.set("LD_PRELOAD", clock);
    device.set("FAKETIME", "@1970-01-01 00:00:20");
    device.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let weir = Weir::start_with(&DEVICES).await;
    weir.ready().await;
    enrol(&weir, &device);
    device.run();
    wait_for_host(&weir, &device, "ready").await;
    let identity = fs::read_to_string(device.file("identity.json")).unwrap();
    let ballast = || device.file("ballast").exists().then_some(());
    wait_for("ballast", async || ballast()).await;
    let app = unique("full");
    weir.put_ready(&app, on(&device)).await;
    assert_eq!(weir.get(&app, "/").await.0, 200);

    // Something fills the disk.
    device.kill_agent();
    let filler = device.file("filler");
    assert!(device.file("ballast").exists());
    assert!(fs::write(&filler, vec![0; DISK as usize]).is_err(), "it is full");
    device.run();
    let goes_on = async || {
        let answers = async || (weir.get(&app, "/").await.0 == 200).then_some(());
        wait_for("what runs to be served", answers).await
    };
    goes_on().await;
    // More to note than what is written anew leaves room for.
    let mut large = on(&device);
    large["env"] = json!({"PADDING": "x".repeat(100_000)});
    let more = unique("more");
    weir.put_ready(&more, large.clone()).await;
    assert!(!device.file("ballast").exists(), "it has made room for what there is to note");
    assert_eq!(weir.get(&more, "/").await.0, 200);
    // Without it, nothing can be noted any more, and what cannot be noted is not begun.
    fs::write(device.file("filler-2"), vec![0; DISK as usize]).unwrap_err();
    let late = unique("late");
    weir.put(&late, large).await;
    assert_ne!(weir.phase(&late).await, "ready");
    assert_eq!(weir.get(&app, "/").await.0, 200, "what runs goes on");
    for filler in ["filler", "filler-2"] {
        fs::remove_file(device.file(filler)).unwrap();
    }
    weir.wait_for_phase(&late, "ready").await;

    // What makes it who it is, is damaged: it says so, and does not become another one.
    device.kill_agent();
    fs::write(device.file("identity.json"), &identity[..identity.len() / 2]).unwrap();
    let refused = device.command(&["run"]).output().unwrap();
    let refused = told(&refused);
    assert!(refused.contains("is damaged; restore it, or enrol"), "{refused}");
    fs::write(device.file("identity.json"), identity).unwrap();
    device.run();
    goes_on().await;
}
