//! Binds the ports, and when one is taken finds out by whom.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
};

use anyhow::anyhow;

/// Listens on an address.
///
/// # Errors
/// A sentence that names the flag, the reason and, where the system tells, who has the port.
pub(crate) fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| explain(flag, address, &error))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn explain(flag: &str, address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let why = match error.kind() {
        ErrorKind::AddrInUse => {
            let owner = owner(address.port()).map_or_else(String::new, |who| format!(" by {who}"));
            format!("the port is in use{owner}; stop that, or choose another port")
        }
        ErrorKind::PermissionDenied => "ports below 1024 need root or CAP_NET_BIND_SERVICE; or \
                                        choose a higher one"
            .to_owned(),
        ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    };
    anyhow!("cannot listen on {address} (--{flag}): {why}")
}

/// The process that listens on a TCP port, as `name (process id)`; none if the system does not tell.
fn owner(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            table.lines().skip(1).filter_map(|line| inode(line, port)).collect::<Vec<_>>()
        })
        .collect();
    let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            if links.iter().any(|link| target.as_os_str() == link.as_str()) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some(format!("{} (process {id})", name.trim()));
            }
        }
    }
    None
}

/// The inode of a listening socket on this port, from a line of `/proc/net/tcp` (see `proc(5)`).
fn inode(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let (_, hex) = local.rsplit_once(':')?;
    (state == LISTEN && u16::from_str_radix(hex, 16) == Ok(port)).then(|| inode.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_with_its_owner() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind("https", taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("--https"), "{error}");
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    }
}
