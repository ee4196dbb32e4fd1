//! The sockets that Weir listens on. They are bound here, or inherited: from systemd, or from the
//! process that this one follows. Both hand them over in the same way (`sd_listen_fds(3)`).

use std::{
    collections::BTreeMap,
    env,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::Command,
};

use anyhow::{Context, anyhow, bail};
use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketType};
use weir_config::Settings;

use crate::{dns::DnsSockets, ports};

/// What was handed to this process.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    listeners: BTreeMap<String, TcpListener>,
    /// Those for DNS over UDP.
    dns: Vec<UdpSocket>,
    operator: Option<UnixListener>,
    /// Leads to the process that this one follows, if it does.
    pub(crate) predecessor: Option<UnixStream>,
}

/// The first descriptor that is handed over.
const FIRST: i32 = 3;
const NAMES: &str = "LISTEN_FDNAMES";
const DEVICES: &str = "devices";
const DNS: &str = "dns";
const OPERATOR: &str = "operator";
const PREDECESSOR: &str = "predecessor";

impl Inherited {
    /// Takes what the environment says. Call it before there is a second thread, because it takes
    /// it out of the environment as well.
    ///
    /// # Errors
    /// A socket is of the wrong kind, or its name says nothing.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let names = env::var(NAMES).unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut inherited = Self::default();
        for i in 0..handed.len() {
            let name = names.next().unwrap_or_default();
            inherited
                .add(name, i, &mut handed)
                .with_context(|| format!("the inherited socket {} (`{name}`)", i as i32 + FIRST))?;
        }
        Ok(inherited)
    }

    fn add(&mut self, name: &str, i: usize, handed: &mut ListenFd) -> anyhow::Result<()> {
        let former = match name {
            DNS if let Ok(Some(socket)) = handed.take_udp_socket(i) => {
                self.dns.push(socket);
                false
            }
            "http" | "https" | "admin" | DNS | DEVICES => {
                let listener = handed.take_tcp_listener(i)?.context("it was taken already")?;
                self.listeners.insert(name.to_owned(), listener).is_some()
            }
            OPERATOR => {
                let listener = handed.take_unix_listener(i)?;
                std::mem::replace(&mut self.operator, listener).is_some()
            }
            PREDECESSOR => {
                let family = i32::from(AddressFamily::UNIX.as_raw());
                let kind = SocketType::STREAM.as_raw() as i32;
                let channel = handed.take_custom(i, family, kind, "unix stream socket")?;
                std::mem::replace(&mut self.predecessor, channel).is_some()
            }
            _ => bail!(
                "name it `http`, `https`, `dns`, `admin` or `devices` (FileDescriptorName= in its \
                 .socket)"
            ),
        };
        if former { Err(anyhow!("there is another one of that name")) } else { Ok(()) }
    }
}

/// Everything that this process listens on.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) http: TcpListener,
    pub(crate) https: TcpListener,
    pub(crate) dns: Option<DnsSockets>,
    pub(crate) admin: TcpListener,
    /// None when no devices may come.
    pub(crate) devices: Option<TcpListener>,
    /// None when it cannot be had: traffic does not depend on it.
    pub(crate) operator: Option<UnixListener>,
}

impl Sockets {
    /// What was inherited, and for the rest what the settings say. The operator's is inherited
    /// only: it is in the state directory, which is not ours yet.
    pub(crate) fn gather(inherited: &mut Inherited, settings: &Settings) -> anyhow::Result<Self> {
        let dns_over_tcp = inherited.listeners.remove(DNS);
        let dns_over_udp = std::mem::take(&mut inherited.dns);
        let mut listener = |name: &str, address: SocketAddr| {
            let Some(listener) = inherited.listeners.remove(name) else {
                return ports::bind(name, address);
            };
            listener.set_nonblocking(true)?;
            let inherited = listener.local_addr()?;
            if ![0, inherited.port()].contains(&address.port()) {
                tracing::warn!(%inherited, setting = %address, "{name}: inherited, not as set");
            }
            Ok(listener)
        };
        let handed = DnsSockets::inherited(dns_over_tcp, dns_over_udp, settings.threads)?;
        let dns = match (settings.dns, handed) {
            (Some(_), Some(handed)) => Some(handed),
            (Some(address), None) => Some(DnsSockets::bind(address, settings.threads)?),
            (None, handed) => {
                if handed.is_some() {
                    tracing::warn!("DNS sockets were inherited, but DNS is off: set --dns");
                }
                None
            }
        };
        Ok(Self {
            http: listener("http", settings.http)?,
            https: listener("https", settings.https)?,
            dns,
            admin: listener("admin", settings.admin)?,
            devices: settings.devices.map(|at| listener(DEVICES, at)).transpose()?,
            operator: inherited.operator.take(),
        })
    }

    /// Lets a program inherit all of this, and the other end of a channel to us.
    pub(crate) fn hand_to(&self, next: &mut Command, channel: UnixStream) -> anyhow::Result<()> {
        let mut handed: Vec<(&str, OwnedFd)> = vec![
            ("http", self.http.try_clone()?.into()),
            ("https", self.https.try_clone()?.into()),
            ("admin", self.admin.try_clone()?.into()),
            (PREDECESSOR, channel.into()),
        ];
        if let Some(dns) = &self.dns {
            handed.extend(dns.descriptors()?.into_iter().map(|socket| (DNS, socket)));
        }
        if let Some(devices) = &self.devices {
            handed.push((DEVICES, devices.try_clone()?.into()));
        }
        if let Some(operator) = &self.operator {
            handed.push((OPERATOR, operator.try_clone()?.into()));
        }
        let names: Vec<_> = handed.iter().map(|(name, _)| *name).collect();
        next.env("LISTEN_FDS", handed.len().to_string()).env(NAMES, names.join(":"));
        // They say whom systemd meant, and the next process is another one.
        next.env_remove("LISTEN_PID").env_remove("WATCHDOG_PID");
        let mapping = |(child_fd, (_, parent_fd))| FdMapping { parent_fd, child_fd };
        next.fd_mappings((FIRST..).zip(handed).map(mapping).collect())?;
        Ok(())
    }
}
