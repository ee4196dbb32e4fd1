//! The checks of what is written about traffic.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::app_names;
use crate::{
    AppSpec, Authorities, Balance, BalanceSpec, ClientAuth, HashKey, Limits, LimitsSpec, Memory,
    Outlier, OutlierSpec, Problem, Problems, Rate, RateSpec, Retries, RetriesSpec, Timeouts,
    TrafficPolicy, Upstream, UpstreamSpec, UpstreamTls,
};

const DEFAULT_BODY: u64 = 1 << 30;
const DEFAULT_IN_FLIGHT: u32 = 10_000;
const DEFAULT_MAX_LOAD: f64 = 1.25;

pub(super) fn policy(spec: &AppSpec, problems: &mut Problems) -> TrafficPolicy {
    let client_auth = spec.client_auth.as_ref().map(|written| ClientAuth {
        roots: roots("/spec/client_auth/ca", &written.ca, problems),
        optional: written.optional,
    });
    TrafficPolicy {
        plain_http: spec.http,
        redirects: BTreeMap::new(),
        upstream: upstream(&spec.upstream, problems),
        timeouts: timeouts(spec, problems),
        retries: retries(&spec.retries, problems),
        outlier: outlier(&spec.outlier, problems),
        limits: limits(&spec.limits, problems),
        client_auth,
        allow: app_names("/spec/private/allow", &spec.private.allow, problems),
    }
}

/// What is meant when nothing is written; the defaults have no problem.
pub(crate) fn default_policy() -> TrafficPolicy {
    policy(&AppSpec::default(), &mut Problems::default())
}

pub(crate) fn balance(base: &str, spec: &BalanceSpec, problems: &mut Problems) -> Balance {
    let hash = spec.hash.as_ref().and_then(|text| {
        problems.take::<HashKey>(&format!("{base}/hash"), "bad_hash", text.parse())
    });
    if spec.max_load.is_some_and(|factor| !(1.01..=100.0).contains(&factor)) {
        let message = "write how many times the mean load one may carry, 1.01 to 100";
        problems.push(Problem::new(format!("{base}/max_load"), "out_of_range", message));
    }
    Balance {
        hash,
        algorithm: spec.algorithm,
        max_load: spec.max_load.unwrap_or(DEFAULT_MAX_LOAD),
        slow_start: spec.slow_start.map_or(Duration::ZERO, |span| span.0),
    }
}

fn upstream(spec: &UpstreamSpec, problems: &mut Problems) -> Upstream {
    let tls = spec.tls.as_ref().and_then(|written| {
        let pointer = "/spec/upstream/tls/server_name";
        let server_name = problems.take(pointer, "bad_hostname", written.server_name.parse())?;
        let ca = written.ca.as_ref();
        let roots = ca.map(|pem| roots("/spec/upstream/tls/ca", pem, problems));
        Some(UpstreamTls { server_name, roots })
    });
    Upstream { protocol: spec.protocol, tls, proxy_protocol: spec.proxy_protocol }
}

fn timeouts(spec: &AppSpec, problems: &mut Problems) -> Timeouts {
    let written = &spec.timeouts;
    let spans = [("connect", Some(written.connect)), ("read", Some(written.read))];
    let more = [("write", Some(written.write)), ("total", written.total)];
    for (field, span) in spans.into_iter().chain(more) {
        if span.is_some_and(|span| span.0.is_zero()) {
            let pointer = format!("/spec/timeouts/{field}");
            problems.push(Problem::new(pointer, "out_of_range", "must be longer than 0s"));
        }
    }
    Timeouts {
        connect: written.connect.0,
        read: written.read.0,
        write: written.write.0,
        total: written.total.map(|span| span.0),
    }
}

fn retries(spec: &RetriesSpec, problems: &mut Problems) -> Retries {
    if spec.attempts > Retries::MAX_ATTEMPTS {
        let message = format!("at most {}", Retries::MAX_ATTEMPTS);
        problems.push(Problem::new("/spec/retries/attempts", "out_of_range", message));
    }
    if spec.budget_percent > 100 {
        let message = "0 to 100";
        problems.push(Problem::new("/spec/retries/budget_percent", "out_of_range", message));
    }
    for (i, status) in spec.on_status.iter().enumerate() {
        if !(500..=599).contains(status) {
            let pointer = format!("/spec/retries/on_status/{i}");
            problems.push(Problem::new(pointer, "out_of_range", "a status from 500 to 599"));
        }
    }
    Retries {
        attempts: spec.attempts,
        on_status: spec.on_status.clone(),
        back_off: spec.back_off.0,
        budget_percent: spec.budget_percent,
    }
}

fn outlier(spec: &OutlierSpec, problems: &mut Problems) -> Outlier {
    if spec.max_ejected_percent > 100 {
        let message = "0 to 100";
        problems.push(Problem::new("/spec/outlier/max_ejected_percent", "out_of_range", message));
    }
    Outlier {
        failures: if spec.failures == 0 { u32::MAX } else { spec.failures },
        ejection: spec.ejection.0,
        max_ejected_percent: spec.max_ejected_percent,
    }
}

fn limits(spec: &LimitsSpec, problems: &mut Problems) -> Limits {
    for (field, limit) in
        [("in_flight", spec.in_flight), ("in_flight_per_instance", spec.in_flight_per_instance)]
    {
        if limit == Some(0) {
            let message = "at least 1: an app that takes no request is deleted instead";
            problems.push(Problem::new(format!("/spec/limits/{field}"), "out_of_range", message));
        }
    }
    Limits {
        body: spec.body.map_or(DEFAULT_BODY, |Memory(bytes)| bytes),
        in_flight: spec.in_flight.unwrap_or(DEFAULT_IN_FLIGHT),
        in_flight_per_instance: spec.in_flight_per_instance.unwrap_or(u32::MAX),
        rate: spec.rate.map(|spec| rate("/spec/limits/rate", spec, problems)),
        rate_per_client: spec
            .rate_per_client
            .map(|spec| rate("/spec/limits/rate_per_client", spec, problems)),
    }
}

fn rate(base: &str, spec: RateSpec, problems: &mut Problems) -> Rate {
    if spec.requests == 0 || spec.burst == Some(0) {
        let field = if spec.requests == 0 { "requests" } else { "burst" };
        problems.push(Problem::new(format!("{base}/{field}"), "out_of_range", "at least 1"));
    }
    if !(Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60)).contains(&spec.per.0) {
        problems.push(Problem::new(format!("{base}/per"), "out_of_range", "1ms to 24h"));
    }
    Rate { requests: spec.requests, per: spec.per.0, burst: spec.burst.unwrap_or(spec.requests) }
}

fn roots(pointer: &str, pem: &str, problems: &mut Problems) -> Authorities {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let message = match parsed {
        Ok(found) if !found.is_empty() => {
            return found.iter().map(|certificate| Arc::from(certificate.as_ref())).collect();
        }
        Ok(_) => "no certificate found; write PEM, `-----BEGIN CERTIFICATE-----` …".to_owned(),
        Err(error) => format!("the certificates cannot be read as PEM: {error}"),
    };
    problems.push(Problem::new(pointer, "bad_certificate", message));
    Authorities::from_iter([])
}
