//! What every proxy is given: names, a certificate for them, and a backend.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Host names that every proxy is told, if it can be told so many.
pub(crate) const NAMES: usize = 100_000;

pub(crate) const DOMAIN: &str = "bench.weir.test";

/// The name whose backend is changed while it is asked for.
pub(crate) const CHANGING: &str = "changing.bench.weir.test";

/// Backends that it changes between: addresses of this machine, all of the one backend.
pub(crate) const BACKENDS: u8 = 8;

pub(crate) fn host(i: usize) -> String {
    format!("n-{i:05}.{DOMAIN}")
}

pub(crate) struct Site {
    dir: tempfile::TempDir,
    backend: Child,
    port: u16,
}

impl Site {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        issue(dir.path())?;
        let program = sibling("backend")?;
        let mut backend = Command::new(&program)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let mut line = String::new();
        BufReader::new(backend.stdout.take().context("no output")?).read_line(&mut line)?;
        let port = line.trim().parse().context("the backend told no port")?;
        Ok(Self { dir, backend, port })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Refuses if the backend has ended: whatever was measured since is worth nothing.
    pub(crate) fn ensure_runs(&mut self) -> anyhow::Result<()> {
        match self.backend.try_wait()? {
            Some(status) => bail!("the backend ended with {status}"),
            None => Ok(()),
        }
    }

    /// Its n-th address.
    pub(crate) fn backend(&self, n: u8) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, 1 + n), self.port).into()
    }

    /// The certificate of the authority that clients trust.
    pub(crate) fn roots(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir().join("certificate.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir().join("key.pem")
    }

    /// A file in its directory, for a proxy's configuration.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir().join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.backend.kill();
        let _ = self.backend.wait();
    }
}

/// One certificate for all names, of the kind that public authorities issue today: ECDSA on P-256.
fn issue(dir: &Path) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec![DOMAIN.to_owned(), format!("*.{DOMAIN}")];
    let leaf = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    fs::write(dir.join("ca.pem"), authority.pem())?;
    fs::write(dir.join("certificate.pem"), leaf.pem())?;
    fs::write(dir.join("key.pem"), key.serialize_pem())?;
    // HAProxy reads both from one file.
    fs::write(dir.join("both.pem"), leaf.pem() + &key.serialize_pem())?;
    Ok(())
}

/// A program that was built beside this one.
pub(crate) fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let mut sibling = env::current_exe()?.with_file_name(name);
    // Tests are built one folder below the programs.
    if sibling.parent().is_some_and(|folder| folder.ends_with("deps")) {
        sibling = sibling.with_file_name("..").join(name);
    }
    Ok(sibling)
}

/// An address that nobody listens on, for a program that cannot say which it chose itself. Nobody
/// else takes it in between but by bad luck, and then the program says so.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
