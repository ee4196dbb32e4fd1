//! Every request through deployments, rollbacks, drains and the loss of a host. A short form of what
//! `make bench ARGS=deployments` does.

// A panic here is a failed test with a place.
#![allow(clippy::unwrap_used)]

use weir_bench::{Done, Proof, Rounds, prove};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_through_deployments_rollbacks_drains_and_a_lost_host() {
    // For each process the first is installed, and any is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Proof { noticed, sent, wrong, done, .. } =
        prove(&Rounds { rounds: 1, rate: 500 }).await.unwrap();
    assert!(noticed > 0, "the negative control: nobody noticed that containers were killed");
    assert!(wrong.is_empty(), "{} of {sent}: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    assert!(sent > 2_000, "{sent} requests are too few");
    let wanted = Done { deployments: 6, rollbacks: 2, drains: 1, scalings: 3, losses: 1 };
    assert_eq!(done, wanted);
}
