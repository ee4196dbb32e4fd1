//! Programs of other servers.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A program of a server, which Debian keeps where users do not look.
pub(crate) fn command(program: &str) -> Command {
    let there = Path::new("/usr/sbin").join(program);
    let mut command = if there.exists() { Command::new(there) } else { Command::new(program) };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub(crate) fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

/// Tells a server to end, so that it ends its children as well, and waits until it has.
pub(crate) fn end(process: &mut Child) {
    let _ = Command::new("kill").arg(process.id().to_string()).status();
    let _ = process.wait();
}
