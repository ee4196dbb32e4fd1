//! Weir: apps of 100 names each over one shard, told and changed through its admin API.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use serde_json::{Value, json};

use super::{Addresses, Peer, call, version};
use crate::{
    process::Process,
    site::{NAMES, Site, free_address, host},
    weir,
};

const SHARD: &str = "backends";

/// The most names that one app may have.
const NAMES_OF_AN_APP: usize = 100;

/// Apps are told to Weir by so many clients at once.
const WRITERS: usize = 8;

/// Until its admin API answers.
const START: Duration = Duration::from_secs(20);

pub(super) fn start(site: &Site) -> anyhow::Result<Peer> {
    start_with(site, "weir", "info,access=off")
}

pub(super) fn start_with_access_log(site: &Site) -> anyhow::Result<Peer> {
    start_with(site, "weir+log", "info")
}

fn start_with(site: &Site, name: &'static str, log: &str) -> anyhow::Result<Peer> {
    let addresses = Addresses::free()?;
    let address = free_address()?;
    let state = site.dir().join(name);
    // One client with 10,000 connections is too many for its defaults, as are its many requests.
    let settings = json!({"proxy": {
        "max_connections_per_client": 20_000,
        "max_requests_per_connection": 1_000_000_000,
        "idle_timeout": "10m",
    }});
    let settings = site.write("weir.yaml", &settings.to_string())?;
    let mut command = weir::serve(&state, [addresses.http, addresses.https, address])?;
    command.args(["--threads", "1", "--log-level", log, "--config"]).arg(settings);
    let mut process = Process::measured(site.dir(), name, &command)?;
    let admin = Admin::wait_for(address, &state, &mut process)?;
    admin.put_all(site.backend(0))?;
    Ok(Peer {
        name,
        version: version(&command.get_program().to_string_lossy(), "--version")?,
        names: "apps of 100 names each, over one shard",
        addresses,
        roots: weir::roots(&state),
        process,
        change: Some(Box::new(move |_, to| admin.change(to))),
    })
}

struct Admin {
    address: SocketAddr,
    token: String,
}

impl Admin {
    fn wait_for(address: SocketAddr, state: &Path, process: &mut Process) -> anyhow::Result<Self> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            process.ensure_runs()?;
            if TcpStream::connect(address).is_ok()
                && let Ok(token) = weir::token(state)
            {
                return Ok(Self { address, token });
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("its admin API does not answer")
    }

    fn put_all(&self, backend: SocketAddr) -> anyhow::Result<()> {
        let put = |writer: usize| {
            for app in (writer..NAMES / NAMES_OF_AN_APP).step_by(WRITERS) {
                let names = (app * NAMES_OF_AN_APP..).take(NAMES_OF_AN_APP).map(host);
                let names: Vec<_> = names.collect();
                self.put_app(&format!("app-{app}"), &names, json!({"shards": [SHARD]}))?;
            }
            anyhow::Ok(())
        };
        // As the others, all names have one group of backends, and so its connections in common.
        let members = json!({"members": [{"name": "backend", "address": backend}]});
        self.put("Shard", SHARD, members)?;
        self.change(backend)?;
        thread::scope(|scope| {
            let writers: Vec<_> =
                (0..WRITERS).map(|writer| scope.spawn(move || put(writer))).collect();
            let mut joined = writers.into_iter().map(|writer| writer.join());
            joined.try_for_each(|put| put.map_err(|_| anyhow!("a writer panicked"))?)
        })
    }

    /// Makes the app that changes another backend's.
    fn change(&self, to: SocketAddr) -> anyhow::Result<()> {
        self.put_app("changing", &[], json!({"upstreams": [to]}))
    }

    fn put_app(&self, app: &str, names: &[String], mut spec: Value) -> anyhow::Result<()> {
        spec["hostnames"] = json!(names);
        spec["http"] = json!("serve");
        self.put("App", app, spec)
    }

    /// Makes an object, or changes it.
    fn put(&self, kind: &str, name: &str, spec: Value) -> anyhow::Result<()> {
        let manifest = json!({"kind": kind, "name": name, "spec": spec});
        let headers = format!("Authorization: Bearer {}\r\n", self.token);
        let path = format!("PUT /v1/{}s/{name}", kind.to_lowercase());
        call(self.address, &path, &headers, &manifest)
    }
}
