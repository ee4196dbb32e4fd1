//! What a container is made from, and whose the one is that has its name already.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use bollard::{
    models::{ContainerCreateBody, RestartPolicyNameEnum},
    query_parameters::{CreateContainerOptions, RemoveImageOptions},
};
use weir_config::{HostName, PortMapping, RestartPolicy, Secrets, Volume};
use weir_deploy::{ContainerState::Running, Docker, Provider, ProviderError};

use crate::support::{GRACE, PORT, SERVE, World, answers, socket, texts};

#[tokio::test]
async fn what_was_made_before_a_crash_is_adopted() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    let before = world.container(&instance).await;

    // Whoever comes back after a crash knows no more than this; and the image may be gone.
    let options = RemoveImageOptions { force: true, ..Default::default() };
    world.raw.remove_image(&world.image, Some(options), None).await.unwrap();
    let docker = Docker::new(HostName::local(), &socket(), &world.cluster);
    docker.create(&world.spec(1, world.template(SERVE)), &Secrets::new()).await.unwrap();

    assert_eq!(world.container(&instance).await, before);
    assert_eq!(docker.list().await.unwrap().containers, [before]);
}

#[tokio::test]
async fn another_template_makes_another_container() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    let before = world.container(&instance).await;

    let mut template = world.template(SERVE);
    template.env.insert("COLOUR".to_owned(), "green".to_owned());
    world.run(template).await;

    let after = world.container(&instance).await;
    assert_ne!(after.id, before.id);
    assert_eq!(after.state, Running);
}

#[tokio::test]
async fn a_strangers_container_is_left_alone() {
    let world = World::new().await;
    let (docker, instance) = (&world.docker, world.instance(1));
    let name = instance.container_name();
    let options = CreateContainerOptions { name: Some(name.clone()), ..Default::default() };
    let body = ContainerCreateBody {
        image: Some(world.image.clone()),
        cmd: Some(["sleep", "1000"].map(str::to_owned).to_vec()),
        ..ContainerCreateBody::default()
    };
    let id = world.raw.create_container(Some(options), body).await.unwrap().id;

    let error =
        docker.create(&world.spec(1, world.template(SERVE)), &Secrets::new()).await.unwrap_err();
    let owner = "a container that Weir did not make".to_owned();
    assert_eq!(error, ProviderError::NameTaken { name, owner });
    assert_eq!(docker.inspect(&instance).await.unwrap(), None);
    let error = docker.stop(&instance, GRACE).await.unwrap_err();
    assert_eq!(error, ProviderError::NoContainer(instance.clone()));
    docker.remove(&instance).await.unwrap();
    assert_eq!(world.raw_container(&instance).await.id, Some(id));
}

#[tokio::test]
async fn two_weirs_on_one_engine_do_not_touch_each_other() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    let before = world.container(&instance).await;

    let other = Docker::new(HostName::local(), &socket(), "another");
    let error =
        other.create(&world.spec(1, world.template(SERVE)), &Secrets::new()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("another Weir (cluster {})", world.cluster)), "{text}");
    assert_eq!(other.inspect(&instance).await.unwrap(), None);
    other.remove(&instance).await.unwrap();
    let listed = other.list().await.unwrap().containers;
    assert!(listed.iter().all(|container| container.instance != instance));

    assert_eq!(world.container(&instance).await, before);
}

#[tokio::test]
async fn a_missing_image_is_named_with_the_reason() {
    let world = World::new().await;
    for (image, reason) in [
        // Nothing listens there, so the registry's reason comes at once.
        ("127.0.0.1:1/team/nothing", "connection refused"),
        ("Not:An:Image", "invalid reference format"),
        ("no?image#../", "invalid reference format"),
    ] {
        let mut template = world.template(SERVE);
        template.image = image.to_owned();
        let error =
            world.docker.create(&world.spec(1, template), &Secrets::new()).await.unwrap_err();
        assert!(matches!(error, ProviderError::Image { .. }), "{error:?}");
        let text = error.to_string();
        for part in [&format!("`{image}`"), "not on this host", reason] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[tokio::test]
async fn a_missing_image_costs_nothing_that_runs() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    let before = world.container(&instance).await;
    let mut template = world.template(SERVE);
    template.image = "127.0.0.1:1/team/nothing:2".to_owned();
    world.docker.create(&world.spec(1, template), &Secrets::new()).await.unwrap_err();
    assert_eq!(world.container(&instance).await, before);
}

#[tokio::test]
async fn limits_and_policies_are_on_the_container() {
    let world = World::new().await;
    let mut template = world.template(SERVE);
    template.resources.millicpus = Some(250);
    template.resources.memory = Some(32 << 20);
    template.resources.pids = 33;
    template.restart = RestartPolicy::Always;
    let instance = world.run(template).await;

    let config = world.raw_container(&instance).await.host_config.unwrap();
    assert_eq!(config.nano_cpus, Some(250_000_000));
    assert_eq!((config.memory, config.memory_swap), (Some(32 << 20), Some(32 << 20)));
    assert_eq!(config.pids_limit, Some(33));
    assert_eq!(config.init, Some(true));
    let restart = config.restart_policy.unwrap();
    assert_eq!(restart.name, Some(RestartPolicyNameEnum::UNLESS_STOPPED));
    let log = config.log_config.unwrap();
    assert_eq!(log.typ.as_deref(), Some("json-file"));
    assert_eq!(log.config.unwrap()["max-size"], "10m");
}

#[tokio::test]
async fn an_image_with_an_init_of_its_own_keeps_it() {
    let world = World::with_image(&[r#"ENTRYPOINT ["/init"]"#]).await;
    let spec = world.spec(1, world.template(SERVE));
    world.docker.create(&spec, &Secrets::new()).await.unwrap();
    let config = world.raw_container(&spec.instance).await.host_config.unwrap();
    assert_eq!(config.init, Some(false));
}

#[tokio::test]
async fn the_environment_is_given_and_port_with_it() {
    let world = World::new().await;
    let mut template = world.template("env");
    template.env.insert("COLOUR".to_owned(), "sea green = #2e8b57".to_owned());
    let instance = world.run(template.clone()).await;
    world.ended(&instance).await;
    let lines = texts(world.docker.logs(&instance, None, false).await.unwrap()).await;
    assert!(lines.contains(&"COLOUR=sea green = #2e8b57".to_owned()), "{lines:?}");
    assert!(lines.contains(&format!("PORT={PORT}")), "{lines:?}");

    template.env.insert("PORT".to_owned(), "99".to_owned());
    let instance = world.run(template).await;
    world.ended(&instance).await;
    let lines = texts(world.docker.logs(&instance, None, false).await.unwrap()).await;
    let ports: Vec<_> = lines.iter().filter(|line| line.starts_with("PORT=")).collect();
    assert_eq!(ports, ["PORT=99"]);
}

#[tokio::test]
async fn volumes_keep_what_a_container_left() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("motto"), "per aspera").unwrap();
    let volumes = vec![
        Volume { source: world.app.to_string(), target: "/data".to_owned(), read_only: false },
        Volume {
            source: directory.path().to_str().unwrap().to_owned(),
            target: "/given".to_owned(),
            read_only: true,
        },
    ];
    let mut template = world.template("cat /given/motto >/data/motto; touch /given/x || exit 9");
    template.volumes = volumes.clone();
    let instance = world.run(template).await;
    let ended = format!("{:?}", world.ended(&instance).await);
    assert!(ended.contains("code: 9"), "a read-only volume was written to: {ended}");
    world.docker.remove(&instance).await.unwrap();

    let mut template = world.template("cat /data/motto");
    template.volumes = volumes;
    let instance = world.run(template).await;
    world.ended(&instance).await;
    let lines = texts(world.docker.logs(&instance, None, false).await.unwrap()).await;
    assert_eq!(lines, ["per aspera"]);
}

#[tokio::test]
async fn a_published_port_answers_on_the_host_and_belongs_to_one() {
    let world = World::new().await;
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let free = TcpListener::bind((local, 0)).unwrap().local_addr().unwrap().port();
    let mut template = world.template(SERVE);
    template.ports =
        vec![PortMapping { address: Some(local), host: free, container: PORT, udp: false }];
    world.run(template.clone()).await;
    answers(local, free).await;

    let second = world.spec(2, template);
    world.docker.create(&second, &Secrets::new()).await.unwrap();
    let error = world.docker.start(&second.instance).await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("already allocated"), "{error}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_the_engines_refusal() {
    let world = World::new().await;
    let mut template = world.template("");
    template.command = vec!["/no/such/program".to_owned()];
    let spec = world.spec(1, template);
    world.docker.create(&spec, &Secrets::new()).await.unwrap();
    // The init starts, and finds nothing to run.
    match world.docker.start(&spec.instance).await {
        Ok(()) => {
            let ended = format!("{:?}", world.ended(&spec.instance).await);
            assert!(ended.contains("code: 127"), "{ended}");
        }
        Err(error) => assert!(error.to_string().contains("/no/such/program"), "{error}"),
    }
}
