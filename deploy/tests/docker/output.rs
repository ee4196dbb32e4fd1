//! What an instance writes, runs and uses.

use std::time::Duration;

use futures::StreamExt;
use weir_deploy::{ContainerState::Running, LogLine, LogStream, Provider, ProviderError, Stats};

use crate::support::{GRACE, SERVE, World, eventually, texts, within_deadline};

fn command(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn both_streams_are_told_apart() {
    let world = World::new().await;
    let script = "echo one; echo oops >&2; for i in 1 2 3; do echo line $i; done; echo -n half";
    let instance = world.run(world.template(script)).await;
    world.ended(&instance).await;

    let lines = world.docker.logs(&instance, None, false).await.unwrap();
    let lines: Vec<LogLine> = lines.map(Result::unwrap).collect().await;
    let of = |stream| {
        lines
            .iter()
            .filter(|line| line.stream == stream)
            .map(|line| &*line.text)
            .collect::<Vec<_>>()
    };
    assert_eq!(of(LogStream::Out), ["one", "line 1", "line 2", "line 3", "half"]);
    assert_eq!(of(LogStream::Err), ["oops"]);
}

#[tokio::test]
async fn the_tail_is_the_end() {
    let world = World::new().await;
    let instance = world.run(world.template("for i in 1 2 3 4; do echo line $i; done")).await;
    world.ended(&instance).await;
    for (tail, expected) in [(0, [].as_slice()), (2, &["line 3", "line 4"])] {
        let lines = texts(world.docker.logs(&instance, Some(tail), false).await.unwrap()).await;
        assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn whoever_follows_sees_each_line_as_it_comes_and_the_end() {
    let world = World::new().await;
    let script = "trap 'echo bye; exit' TERM; echo hello; while :; do sleep 0.05; done";
    let instance = world.run(world.template(script)).await;
    let mut lines = world.docker.logs(&instance, None, true).await.unwrap();
    let first = within_deadline("the first line", lines.next()).await.unwrap().unwrap();
    assert_eq!(first.text, "hello");
    assert_eq!(world.state(&instance).await, Running);

    world.docker.stop(&instance, GRACE).await.unwrap();
    assert_eq!(texts(lines).await, ["bye"]);
}

#[tokio::test]
async fn a_very_long_line_comes_in_pieces() {
    let world = World::new().await;
    let script = "yes | head -c 100000 | tr -d '\\n'; echo; echo next";
    let instance = world.run(world.template(script)).await;
    world.ended(&instance).await;
    let mut pieces = texts(world.docker.logs(&instance, None, false).await.unwrap()).await;
    assert_eq!(pieces.pop().as_deref(), Some("next"));
    assert!(pieces.iter().all(|piece| piece.len() <= 16 << 10));
    assert_eq!(pieces.concat(), "y".repeat(50_000));
}

#[tokio::test]
async fn a_command_tells_its_output_and_its_code() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    let script = "echo to out; echo to err >&2; exit 4";
    let output = world.docker.exec(&instance, &command(&["sh", "-c", script]), GRACE).await;
    let output = output.unwrap();
    assert_eq!(output.exit_code, 4);
    let line = |stream, text: &str| LogLine { stream, text: text.to_owned() };
    assert!(output.lines.contains(&line(LogStream::Out, "to out")), "{output:?}");
    assert!(output.lines.contains(&line(LogStream::Err, "to err")), "{output:?}");

    let missing = world.docker.exec(&instance, &command(&["/no/such/program"]), GRACE).await;
    match missing {
        Ok(output) => assert!([126, 127].contains(&output.exit_code), "{output:?}"),
        Err(error) => assert!(error.to_string().contains("/no/such/program"), "{error}"),
    }
}

#[tokio::test]
async fn a_command_is_bounded_in_time_and_output() {
    let world = World::new().await;
    let instance = world.run(world.template(SERVE)).await;
    let limit = Duration::from_millis(300);
    let error = world.docker.exec(&instance, &command(&["sleep", "1000"]), limit).await;
    assert_eq!(error.unwrap_err(), ProviderError::TimedOut { call: "exec".into(), limit });

    let script = "yes | head -c 4000000; exit 5";
    let output = world.docker.exec(&instance, &command(&["sh", "-c", script]), GRACE).await;
    let output = output.unwrap();
    assert_eq!(output.exit_code, 5);
    let bytes: usize = output.lines.iter().map(|line| line.text.len()).sum();
    assert!(bytes < 1 << 20, "{bytes}");
    assert!(output.lines.last().unwrap().text.contains("cut here"));
}

#[tokio::test]
async fn a_command_needs_an_instance_that_runs() {
    let world = World::new().await;
    let instance = world.run(world.template("exit 0")).await;
    world.ended(&instance).await;
    let error = world.docker.exec(&instance, &command(&["env"]), GRACE).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused(why) if why.contains("running")), "{error:?}");
}

#[tokio::test]
async fn use_is_measured_while_it_runs_paused_or_not() {
    let world = World::new().await;
    let instance = world.run(world.template("while :; do :; done")).await;
    let busy = eventually("some use of the CPU", async || {
        let stats = world.docker.stats(&instance).await.unwrap();
        (stats.cpu > Duration::from_millis(50)).then_some(stats)
    })
    .await;
    assert!(busy.memory > 0 && busy.memory < 64 << 20, "{busy:?}");
    assert!(busy.processes >= 1, "{busy:?}");
    assert!(busy.network.contains_key("eth0"), "{busy:?}");

    world.docker.pause(&instance).await.unwrap();
    let paused = world.docker.stats(&instance).await.unwrap();
    assert!(paused.cpu >= busy.cpu && paused.memory > 0, "{paused:?}");

    world.docker.stop(&instance, Duration::ZERO).await.unwrap();
    assert_eq!(world.docker.stats(&instance).await.unwrap(), Stats::default());
}
