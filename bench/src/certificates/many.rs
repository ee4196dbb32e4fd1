//! Very many certificates: memory, the time of a start, and that of a look-up.

use std::{
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::Method;
use serde_json::json;
use weir_config::{Certificate, Certificates, Hostname};

use super::{
    CertificateScale,
    issuance::{shown, trust_of},
    server::Weir,
};
use crate::report::Report;

/// Uploads at a time.
const AT_ONCE: usize = 16;
const LOOKUPS: usize = 100_000;
const ROUNDS: usize = 9;
/// For what is freed a moment later.
const REST: Duration = Duration::from_secs(2);

type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) async fn measure(report: &mut Report, scale: CertificateScale) -> anyhow::Result<()> {
    let count = scale.certificates;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    look_up(report, count, &authority)?;

    let mut weir = Weir::start(in_memory()?, &[]).await?;
    let before = weir.memory()?;
    let began = Instant::now();
    let upload = |i: usize| {
        let (weir, authority) = (&weir, &authority);
        async move {
            let (chain, key) = issue(authority, &name(i))?;
            weir.api(Method::POST, "certificates", json!({"chain": chain, "key": key})).await
        }
    };
    let uploads = stream::iter(0..count).map(upload).buffer_unordered(AT_ONCE);
    uploads.try_for_each(|_| async { Ok(()) }).await?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    report.figure("certificates uploaded a second, 16 at once", rate, "", "");

    let root = weir.dir().join("authority.pem");
    std::fs::write(&root, authority.pem())?;
    let last = name(count - 1);
    // Once with files of the former start, as after every restart.
    let started = weir.restart().await?;
    let what = format!("start with {count} certificates, to the first handshake");
    let took = shown(weir.https, &last, trust_of(&root)?, started).await?;
    report.figure(&what, took.as_secs_f64(), "s", "");
    weir.wait_until_ready().await?;
    report.figure("  to ready", started.elapsed().as_secs_f64(), "s", "");
    tokio::time::sleep(REST).await;
    let each = weir.memory()?.saturating_sub(before) as f64 / count as f64 / 1024.0;
    report.figure("memory of each certificate", each, "KiB", "");
    let pages = weir.api(Method::GET, &format!("certificates/{last}"), json!(null)).await?;
    ensure!(pages["state"] == "valid", "the last one is not there: {pages:#}");
    Ok(())
}

/// A directory whose files are in memory, if there is a place for such: a hundred thousand writes to
/// disk are not what is measured.
fn in_memory() -> anyhow::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    Ok(tempfile::tempdir_in(place)?)
}

fn name(i: usize) -> String {
    format!("n-{i:06}.example.test")
}

fn issue(authority: &Authority, name: &str) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new([name.to_owned()])?.signed_by(&key, authority)?;
    Ok((leaf.pem() + &authority.pem(), key.serialize_pem()))
}

fn look_up(report: &mut Report, count: usize, authority: &Authority) -> anyhow::Result<()> {
    let (chain, key) = issue(authority, "one.example.test")?;
    let certificate = |i: usize| -> anyhow::Result<_> {
        let name: Hostname = name(i).parse().map_err(anyhow::Error::msg)?;
        Ok(Arc::new(Certificate::from_pem([name], &chain, &key, (0, 0))?))
    };
    let all = (0..count).map(certificate).collect::<anyhow::Result<Certificates>>()?;
    // A stride that visits the names in an order that no cache foresees.
    let names: Vec<_> = (0..LOOKUPS).map(|i| name(i * 7919 % count)).collect();
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| nanoseconds(&all, &names)).collect();
    rounds.sort_by(f64::total_cmp);
    let what = format!("certificate look-up among {count}");
    report.figure(&what, rounds[ROUNDS / 2], "ns", "<= 2000");
    Ok(())
}

fn nanoseconds(all: &Certificates, names: &[String]) -> f64 {
    let began = Instant::now();
    for name in names {
        black_box(all.find(black_box(name)));
    }
    began.elapsed().as_nanos() as f64 / names.len() as f64
}
