//! Endpoints that fail again and again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use weir_config::{Endpoint, Incident, Moment, Outlier};

use crate::{
    harness::{DEADLINE, Hint, World, eventually, serving},
    upstreams::{Act, Scripted},
};

const LONG: Duration = Duration::from_secs(600);

fn after(failures: u32, ejection: Duration, max_ejected_percent: u8) -> Outlier {
    Outlier { failures, ejection, max_ejected_percent }
}

/// A world with an app whose endpoints each do one thing.
async fn world<const N: usize>(acts: [Act; N], outlier: Outlier) -> (World, [Scripted; N]) {
    let mut world = World::start();
    let mut upstreams = Vec::new();
    for act in acts {
        upstreams.push(Scripted::start(move |_| act).await);
    }
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    world.serve_with("blog", &addresses, |policy| {
        policy.outlier = outlier;
        policy.retries.attempts = 0;
    });
    (world, upstreams.try_into().ok().unwrap())
}

fn ejected(world: &World) -> usize {
    let endpoints = world.activity.endpoints();
    endpoints.iter().filter(|(_, activity)| activity.is_ejected(Moment::now())).count()
}

/// How many of so many requests, one after the other, were answered with an error.
async fn errors(world: &World, requests: usize) -> usize {
    let (client, mut errors) = (world.h1(), 0);
    for _ in 0..requests {
        let answer = client.get(world.url("blog", "/")).send().await.unwrap();
        errors += usize::from(answer.status().is_server_error());
    }
    errors
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_gets_no_requests_and_control_hears_of_it() {
    for act in [Act::Answer(500), Act::HangUp] {
        let (mut world, [bad, _]) = world([act, Act::Answer(200)], after(3, LONG, 50)).await;
        assert_eq!(errors(&world, 60).await, 3);
        assert_eq!(bad.hits(), 3);
        assert_eq!(world.app("blog").counted(Incident::Ejection), 1);
        assert_eq!(world.hint().await, Hint::connect_failed("blog", 0));
        assert!(world.hints.is_empty());
        assert_eq!(ejected(&world), 1);
    }
    // Without ejection it goes on failing.
    let (world, [bad, _]) =
        world([Act::Answer(500), Act::Answer(200)], after(u32::MAX, LONG, 50)).await;
    assert_eq!(errors(&world, 60).await as u64, bad.hits());
    assert!(bad.hits() > 3, "{}", bad.hits());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_between_forgive() {
    let mut world = World::start();
    let sometimes = Scripted::start(|hit| Act::Answer(if hit % 3 == 2 { 200 } else { 500 })).await;
    let good = Scripted::start(|_| Act::Answer(200)).await;
    world.serve_with("blog", &[sometimes.address, good.address], |policy| {
        policy.outlier = after(3, LONG, 50);
    });
    let errors = errors(&world, 60).await;
    assert!(errors > 6 && sometimes.hits() > 9, "{errors} {}", sometimes.hits());
    assert_eq!(world.app("blog").counted(Incident::Ejection), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_tries_an_ejected_endpoint_and_each_failure_doubles_its_time() {
    let ejection = Duration::from_millis(200);
    let (world, [bad, _]) =
        world([Act::Answer(500), Act::Answer(200)], after(3, ejection, 50)).await;
    let begun = Instant::now();
    let mut failed = 0;
    while failed < 5 {
        failed += errors(&world, 1).await;
        assert!(begun.elapsed() < DEADLINE);
    }
    // Three failures and two trials, one after 200 ms and one 400 ms after that.
    assert_eq!(bad.hits(), 5);
    assert!(begun.elapsed() >= 3 * ejection, "{:?}", begun.elapsed());
    assert_eq!(world.app("blog").counted(Incident::Ejection), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_passes_its_trial_is_as_good_as_any() {
    let mut world = World::start();
    let heals = Scripted::start(|hit| Act::Answer(if hit < 3 { 500 } else { 200 })).await;
    let good = Scripted::start(|_| Act::Answer(200)).await;
    world.serve_with("blog", &[heals.address, good.address], |policy| {
        policy.outlier = after(3, Duration::from_millis(50), 50);
    });
    assert_eq!(errors(&world, 40).await, 3);
    let begun = Instant::now();
    while heals.hits() < 10 {
        assert_eq!(errors(&world, 1).await, 0);
        assert!(begun.elapsed() < DEADLINE);
    }
    assert_eq!(ejected(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_started_again_begins_with_a_clean_sheet() {
    let outlier = || after(3, LONG, 50);
    let (mut world, [bad, good]) = world([Act::Answer(500), Act::Answer(200)], outlier()).await;
    assert_eq!((errors(&world, 60).await, ejected(&world)), (3, 1));
    let again = Scripted::start(|_| Act::Answer(200)).await;
    let publish = |world: &mut World, ready_since| {
        let restarted = world.endpoint("blog", 0, again.address);
        let other = world.endpoint("blog", 1, good.address);
        let mut route =
            world.route("blog", serving([Endpoint { ready_since, ..restarted }, other]));
        Arc::make_mut(&mut route.policy).outlier = outlier();
        world.control.publish(|snapshot| snapshot.insert(route));
    };
    // As long as it is the same process, a new snapshot changes nothing.
    publish(&mut world, Moment::default());
    assert_eq!((errors(&world, 20).await, again.hits()), (0, 0));
    publish(&mut world, Moment::now());
    assert_eq!(errors(&world, 60).await, 0);
    assert!(again.hits() > 10, "{}", again.hits());
    assert_eq!((bad.hits(), ejected(&world)), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_too_many_fail_the_fault_is_not_theirs() {
    let acts = [Act::Answer(500), Act::Answer(500), Act::Answer(200)];
    let (world_50, [one, other, _]) = world(acts, after(3, LONG, 50)).await;
    errors(&world_50, 120).await;
    // The second ejection makes two of three, and ends both.
    assert!(one.hits() > 10 && other.hits() > 10, "{} {}", one.hits(), other.hits());
    // Where all may be ejected, they are.
    let (world_100, [one, other, _]) = world(acts, after(3, LONG, 100)).await;
    assert_eq!(errors(&world_100, 120).await, 6);
    assert_eq!((one.hits(), other.hits()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_only_endpoint_is_never_ejected() {
    let (world, [only]) = world([Act::Answer(500)], after(3, LONG, 50)).await;
    assert_eq!(errors(&world, 20).await, 20);
    assert_eq!(only.hits(), 20);
    let endpoint = world.in_flight_on("blog", 0);
    eventually("no lease is left", || endpoint.in_flight() == 0).await;
}
