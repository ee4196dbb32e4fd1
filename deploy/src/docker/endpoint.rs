//! How an engine is reached: by a Unix socket, TCP with or without TLS, or SSH.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    process::Stdio,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bollard::{BollardRequest, errors::Error};
use hyper::{Response, body::Incoming, client::conn::http1, header, http::uri::Uri};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use weir_config::{Engine, EngineTlsSpec, Ssh};

/// Where an engine answers.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Unix(Arc<Path>),
    Tcp { authority: String, tls: Option<Arc<EngineTlsSpec>> },
    Ssh(Arc<SshLogin>),
}

#[derive(Debug)]
pub(crate) struct SshLogin {
    ssh: Ssh,
    /// Only ours: whoever could put a socket there would be taken for the host.
    sockets: io::Result<TempDir>,
}

/// Both directions of a connection.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What a login that fails writes is there at once.
const COMPLAINT: Duration = Duration::from_secs(1);
const COMPLAINT_SIZE: u64 = 2048;

impl Endpoint {
    /// `local` is the socket of this machine's engine. `None` of a device, whose agent asks it.
    pub(crate) fn new(engine: &Engine, local: &Path) -> Option<Self> {
        Some(match engine {
            Engine::Device => return None,
            Engine::Local => Self::Unix(local.into()),
            Engine::Unix(socket) => Self::Unix(socket.as_path().into()),
            Engine::Tcp { authority, tls } => {
                Self::Tcp { authority: authority.clone(), tls: tls.clone().map(Arc::new) }
            }
            Engine::Ssh(ssh) => {
                let sockets = tempfile::Builder::new().prefix("weir-ssh-").tempdir();
                Self::Ssh(Arc::new(SshLogin { ssh: ssh.clone(), sockets }))
            }
        })
    }

    /// Sends one request on a connection of its own, which ends with the answer.
    pub(crate) async fn send(self, request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let (stream, complaint) = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        match sender.send_request(in_origin_form(request)?).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(match complaint {
                Some(stderr) => why(stderr).await.map_or_else(|| error.into(), Error::from),
                None => error.into(),
            }),
        }
    }

    async fn connect(&self) -> io::Result<(Box<dyn Duplex>, Option<ChildStderr>)> {
        match self {
            Self::Unix(socket) => Ok((Box::new(UnixStream::connect(socket).await?), None)),
            Self::Tcp { authority, tls } => {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                let Some(tls) = tls else { return Ok((Box::new(stream), None)) };
                let stream = secure(authority, tls, stream).await?;
                Ok((stream, None))
            }
            Self::Ssh(login) => {
                let (stream, stderr) = login.connect()?;
                Ok((Box::new(stream), Some(stderr)))
            }
        }
    }
}

/// Proxies take the whole address of a request, servers its path.
fn in_origin_form(request: BollardRequest) -> Result<BollardRequest, Error> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse::<Uri>().map_err(io::Error::other)?;
    head.headers.insert(header::HOST, header::HeaderValue::from_static("docker"));
    Ok(BollardRequest::from_parts(head, body))
}

/// Proves to each other who they are. The files are read each time, so that they can be renewed.
async fn secure(
    authority: &str,
    tls: &EngineTlsSpec,
    stream: TcpStream,
) -> io::Result<Box<dyn Duplex>> {
    let config = client_config(tls).await?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(Box::new(stream))
}

async fn client_config(tls: &EngineTlsSpec) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&tls.ca_file).await? {
        roots.add(authority).map_err(|error| unusable(&tls.ca_file, &error))?;
    }
    let key = read(&tls.key_file).await?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| unusable(&tls.key_file, &e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&tls.cert_file).await?, key)
        .map_err(|error| unusable(&tls.cert_file, &error))
}

async fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = read(file).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.map_err(|error| unusable(file, &error))
}

async fn read(file: &Path) -> io::Result<Vec<u8>> {
    tokio::fs::read(file).await.map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, error: &dyn fmt::Display) -> io::Error {
    io::Error::other(format!("{} cannot be used: {error}", file.display()))
}

/// A login's own words, if it said any.
async fn why(stderr: ChildStderr) -> Option<io::Error> {
    let mut text = String::new();
    let mut said = stderr.take(COMPLAINT_SIZE);
    // One that hangs has said what it had to say.
    let _ = timeout(COMPLAINT, said.read_to_string(&mut text)).await;
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(io::Error::other(last.to_owned()))
}

impl SshLogin {
    /// Speaks to the engine as Docker's own client does, by `docker system dial-stdio` on the host.
    /// The first connection is shared by those that come while it lasts.
    fn connect(&self) -> io::Result<(SshStream, ChildStderr)> {
        let Ssh { user, host, port, identity_file, known_hosts_file } = &self.ssh;
        let sockets = self.sockets.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
        let mut command = Command::new("ssh");
        command.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        command.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2"]);
        command.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=60"]);
        command.arg("-o").arg(option("ControlPath", &sockets.path().join("master")));
        if let Some(file) = identity_file {
            command.arg("-i").arg(file).args(["-o", "IdentitiesOnly=yes"]);
        }
        if let Some(file) = known_hosts_file {
            command.arg("-o").arg(option("UserKnownHostsFile", file));
        }
        command.args(["-p", &port.to_string(), "-l", user, "--", host]);
        command.args(["docker", "system", "dial-stdio"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(|error| {
            io::Error::other(format!("`ssh` cannot be run; install OpenSSH's client: {error}"))
        })?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(input), Some(output), Some(stderr)) => {
                Ok((SshStream { input, output, _child: child }, stderr))
            }
            _ => Err(io::Error::other("`ssh` was started without its pipes")),
        }
    }
}

fn option(name: &str, file: &Path) -> PathBuf {
    format!("{name}={}", file.display()).into()
}

/// What a login reads and writes. It ends with this.
struct SshStream {
    input: ChildStdin,
    output: ChildStdout,
    _child: Child,
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(socket) => write!(f, "{}", socket.display()),
            Self::Tcp { authority, .. } => write!(f, "tcp://{authority}"),
            Self::Ssh(login) => {
                let Ssh { user, host, port, .. } = &login.ssh;
                write!(f, "ssh://{user}@{host}:{port}")
            }
        }
    }
}
