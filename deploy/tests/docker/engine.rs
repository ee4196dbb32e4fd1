//! The engine as a whole: what it is, what it tells unasked, and when it is not there.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};
use weir_config::{HostName, RestartPolicy, Secrets};
use weir_deploy::{ContainerEvent, Docker, Provider, ProviderError, Stream};

use crate::support::{GRACE, SERVE, World, behind_our_back, client, socket, within_deadline};

async fn next(events: &mut Stream<ContainerEvent>) -> ContainerEvent {
    within_deadline("an event", events.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_engine_says_what_it_is() {
    let world = World::new().await;
    let info = world.docker.info().await.unwrap();
    assert!(info.cpus > 0 && info.memory > 0, "{info:?}");
    assert!(info.api_version.starts_with("1."), "{info:?}");
    assert_eq!(info.os, "linux");
}

#[tokio::test]
async fn what_happens_after_the_subscription_is_never_missed() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    let name = instance.container_name();
    let mut events = world.docker.events().await.unwrap();
    // No task of this test's runtime runs meanwhile, so the engine has not been asked for events.
    behind_our_back(async move || client().pause_container(&name).await).unwrap().unwrap();
    let event = next(&mut events).await;
    assert_eq!(event, ContainerEvent { instance, at: event.at, exit_code: None });
}

#[tokio::test]
async fn an_exit_code_is_told_though_the_engine_starts_it_again() {
    let world = World::new().await;
    let mut events = world.docker.events().await.unwrap();
    let mut template = world.template("exit 6");
    template.restart = RestartPolicy::Always;
    let instance = world.run(template).await;
    let mut deaths = 0;
    while deaths < 2 {
        let event = next(&mut events).await;
        assert_eq!(event.instance, instance);
        if let Some(code) = event.exit_code {
            assert_eq!(code, 6);
            deaths += 1;
        }
    }
}

#[tokio::test]
async fn each_change_is_told_and_a_probe_or_command_is_not() {
    let world = World::new().await;
    let mut events = world.docker.events().await.unwrap();
    let instance = world.run(world.template(SERVE)).await;
    for _ in ["create", "start"] {
        assert_eq!(next(&mut events).await.instance, instance);
    }
    world.docker.exec(&instance, &["env".to_owned()], GRACE).await.unwrap();
    world.docker.pause(&instance).await.unwrap();
    world.docker.unpause(&instance).await.unwrap();
    for _ in ["pause", "unpause"] {
        assert_eq!(next(&mut events).await.exit_code, None);
    }
    world.docker.stop(&instance, GRACE).await.unwrap();
    while next(&mut events).await.exit_code.is_none() {}
    world.docker.remove(&instance).await.unwrap();
    assert_eq!(next(&mut events).await.instance, instance);
}

#[tokio::test]
async fn another_weirs_containers_are_neither_listed_nor_told_of() {
    let (ours, theirs) = (World::new().await, World::new().await);
    let mut events = ours.docker.events().await.unwrap();
    let not_ours = theirs.run(theirs.template(SERVE)).await;
    let instance = ours.run(ours.template(SERVE)).await;

    let listed = ours.docker.list().await.unwrap().containers;
    assert_eq!(listed, [ours.container(&instance).await]);
    assert_eq!(theirs.docker.list().await.unwrap().containers, [theirs.container(&not_ours).await]);
    assert_eq!(next(&mut events).await.instance, instance);
}

#[tokio::test]
async fn all_of_a_weirs_containers_are_listed_running_or_not() {
    let world = World::new().await;
    let mut expected = Vec::new();
    for deployment in 1..=12 {
        let spec = world.spec(deployment, world.template(SERVE));
        world.docker.create(&spec, &Secrets::new()).await.unwrap();
        expected.push(spec.instance);
    }
    world.docker.start(&expected[0]).await.unwrap();
    let mut listed: Vec<_> = world
        .docker
        .list()
        .await
        .unwrap()
        .containers
        .into_iter()
        .map(|container| container.instance)
        .collect();
    listed.sort();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_an_error_at_once() {
    let docker = Docker::new(HostName::local(), &PathBuf::from("/nonexistent/docker.sock"), "test");
    let began = Instant::now();
    let errors =
        [docker.info().await.err(), docker.list().await.err(), docker.events().await.err()];
    for error in errors {
        assert!(matches!(error, Some(ProviderError::Unreachable { .. })), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn an_engine_that_comes_goes_and_comes_again_is_used_when_it_is_there() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let docker = Arc::new(Docker::new(HostName::local(), &path, &world.cluster));
    let unreachable =
        async || matches!(docker.info().await, Err(ProviderError::Unreachable { .. }));
    assert!(unreachable().await);

    for _ in 0..2 {
        let relay = relay(path.clone());
        docker.info().await.unwrap();
        docker.create(&world.spec(1, world.template(SERVE)), &Secrets::new()).await.unwrap();
        assert_eq!(docker.list().await.unwrap().containers.len(), 1);
        let mut events = docker.events().await.unwrap();

        relay.abort();
        let ended = within_deadline("the end of the events", events.next()).await;
        assert!(matches!(ended, None | Some(Err(ProviderError::Unreachable { .. }))), "{ended:?}");
        assert!(unreachable().await);
        std::fs::remove_file(&path).unwrap();
        assert!(unreachable().await);
    }
}

/// A socket that leads to the engine until the task is aborted.
fn relay(path: PathBuf) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        // Dropped with the task, and every connection with it.
        let mut connections = JoinSet::new();
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut far = UnixStream::connect(socket()).await.unwrap();
                copy_bidirectional(&mut near, &mut far).await.ok();
            });
        }
    })
}
