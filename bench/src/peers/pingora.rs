//! `bare-pingora`, built beside this program: what Weir is made of, and nothing else.

use std::process::Command;

use anyhow::Context;

use super::{Addresses, Peer};
use crate::{
    process::Process,
    site::{Site, sibling},
};

pub(super) fn start(site: &Site) -> anyhow::Result<Peer> {
    let addresses = Addresses::free()?;
    let mut command = Command::new(sibling("bare-pingora")?);
    command
        .arg(site.backend(0).to_string())
        .args([addresses.http, addresses.https].map(|address| address.to_string()))
        .args([site.certificate(), site.key()]);
    Ok(Peer {
        name: "pingora",
        version: locked_version().context("Cargo.lock has no pingora")?.to_owned(),
        names: "none: it has no routes",
        addresses,
        roots: site.roots(),
        process: Process::measured(site.dir(), "pingora", &command)?,
        change: None,
    })
}

/// Of the library that was built in.
fn locked_version() -> Option<&'static str> {
    let (_, package) = include_str!("../../../Cargo.lock").split_once("name = \"pingora\"")?;
    package.split('"').nth(1)
}
