//! From made to removed, each step once, twice and out of turn.

use std::time::Duration;

use tokio::time::Instant;
use weir_config::{RestartPolicy, Secrets};
use weir_deploy::{
    ContainerState::{self, Created, Exited, Paused, Running},
    Provider, ProviderError,
};

use crate::support::{GRACE, PORT, SERVE, SERVE_ENDED, World, answers, eventually};

#[tokio::test]
async fn a_whole_life() {
    let world = World::new().await;
    let (docker, instance) = (&world.docker, world.instance(1));
    assert_eq!(docker.inspect(&instance).await.unwrap(), None);

    docker.create(&world.spec(1, world.template(SERVE)), &Secrets::new()).await.unwrap();
    let made = world.container(&instance).await;
    assert_eq!((made.state, made.address, made.port), (Created, None, PORT));
    assert_eq!(made.instance, instance);

    docker.start(&instance).await.unwrap();
    let running = world.container(&instance).await;
    assert_eq!((running.state, &running.id), (Running, &made.id));
    answers(running.address.unwrap(), PORT).await;

    docker.pause(&instance).await.unwrap();
    let paused = world.container(&instance).await;
    assert_eq!((paused.state, paused.address), (Paused, running.address));

    docker.unpause(&instance).await.unwrap();
    assert_eq!(world.state(&instance).await, Running);
    answers(running.address.unwrap(), PORT).await;

    docker.stop(&instance, GRACE).await.unwrap();
    let stopped = world.container(&instance).await;
    assert_eq!((stopped.state, stopped.address), (SERVE_ENDED, None));

    docker.start(&instance).await.unwrap();
    let again = world.container(&instance).await;
    assert_eq!((again.state, &again.id), (Running, &made.id));

    docker.remove(&instance).await.unwrap();
    assert_eq!(docker.inspect(&instance).await.unwrap(), None);
}

#[tokio::test]
async fn every_verb_may_be_repeated() {
    let world = World::new().await;
    let docker = &world.docker;
    let instance = world.run(world.template(SERVE)).await;
    docker.start(&instance).await.unwrap();
    docker.unpause(&instance).await.unwrap();
    for _ in 0..2 {
        docker.pause(&instance).await.unwrap();
    }
    for _ in 0..2 {
        docker.unpause(&instance).await.unwrap();
        assert_eq!(world.state(&instance).await, Running);
    }
    for _ in 0..2 {
        docker.stop(&instance, GRACE).await.unwrap();
        assert_eq!(world.state(&instance).await, SERVE_ENDED);
    }
    docker.unpause(&instance).await.unwrap();
    for _ in 0..2 {
        docker.remove(&instance).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let world = World::new().await;
    let (docker, instance) = (&world.docker, world.instance(1));
    let second = Duration::from_secs(1);
    let errors = [
        ("start", docker.start(&instance).await.err()),
        ("pause", docker.pause(&instance).await.err()),
        ("unpause", docker.unpause(&instance).await.err()),
        ("stop", docker.stop(&instance, second).await.err()),
        ("logs", docker.logs(&instance, None, false).await.err()),
        ("stats", docker.stats(&instance).await.err()),
        ("exec", docker.exec(&instance, &["true".to_owned()], second).await.err()),
    ];
    for (verb, error) in errors {
        assert_eq!(error, Some(ProviderError::NoContainer(instance.clone())), "{verb}");
    }
}

#[tokio::test]
async fn a_paused_instance_hears_that_it_should_end() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    // Only after this has the shell set its trap.
    answers(world.container(&instance).await.address.unwrap(), PORT).await;
    world.docker.pause(&instance).await.unwrap();
    world.docker.stop(&instance, GRACE).await.unwrap();
    assert_eq!(world.state(&instance).await, SERVE_ENDED);
}

#[tokio::test]
async fn a_paused_instance_can_be_removed() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    world.docker.pause(&instance).await.unwrap();
    world.docker.remove(&instance).await.unwrap();
    assert_eq!(world.docker.inspect(&instance).await.unwrap(), None);
}

#[tokio::test]
async fn a_start_of_a_paused_instance_is_refused() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    world.docker.pause(&instance).await.unwrap();
    let error = world.docker.start(&instance).await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused(_)), "{error:?}");
    assert_eq!(world.state(&instance).await, Paused);
}

#[tokio::test]
async fn an_app_that_ignores_signals_as_process_1_still_stops_at_once() {
    let world = World::new().await;
    let instance = world.run(world.template("exec sleep 1000")).await;
    let began = Instant::now();
    world.docker.stop(&instance, GRACE).await.unwrap();
    assert_eq!(world.state(&instance).await, Exited { code: 143, out_of_memory: false });
    assert!(began.elapsed() < GRACE, "it took the whole grace: {:?}", began.elapsed());
}

#[tokio::test]
async fn one_that_does_not_listen_is_ended_after_its_grace() {
    let world = World::new().await;
    let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.05; done";
    let instance = world.run(world.template(deaf)).await;
    eventually("the trap", async || {
        let lines = world.docker.logs(&instance, None, false).await.unwrap();
        crate::support::texts(lines).await.contains(&"deaf".to_owned()).then_some(())
    })
    .await;
    world.docker.stop(&instance, Duration::from_millis(500)).await.unwrap();
    assert_eq!(world.state(&instance).await, Exited { code: 137, out_of_memory: false });
}

#[tokio::test]
async fn an_end_by_itself_tells_its_code() {
    let world = World::new().await;
    let instance = world.run(world.template("exit 3")).await;
    assert_eq!(world.ended(&instance).await, Exited { code: 3, out_of_memory: false });
}

#[tokio::test]
async fn too_much_memory_is_told_from_other_ends() {
    let world = World::new().await;
    let mut template = world.template("exec tail /dev/zero");
    template.resources.memory = Some(16 << 20);
    let instance = world.run(template).await;
    let ended = world.ended(&instance).await;
    assert!(matches!(ended, Exited { out_of_memory: true, .. }), "{ended:?}");
}

#[tokio::test]
async fn an_instance_that_keeps_ending_is_restarting_and_counts() {
    let world = World::new().await;
    let mut template = world.template("exit 1");
    template.restart = RestartPolicy::Always;
    let instance = world.run(template).await;
    // The engine waits longer before each restart, so the state in between can be met.
    eventually("the state between two starts", async || {
        let container = world.container(&instance).await;
        (container.state == ContainerState::Restarting && container.restarts > 1).then_some(())
    })
    .await;
    world.docker.stop(&instance, GRACE).await.unwrap();
    let state = world.state(&instance).await;
    assert!(matches!(state, Exited { .. }), "{state:?}");
}
