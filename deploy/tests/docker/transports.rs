//! The same engine by every way there is to reach one, as it is from another machine.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use weir_config::{Host, parse_documents};
use weir_deploy::{Docker, Provider, ProviderError};

use crate::support::{GRACE, PORT, SERVE, World, answers, eventually, socket, texts};

/// A host of this spec that is reached as one of another machine, though it is this one.
fn engine(world: &World, spec: &str) -> Docker {
    let text = format!("kind: Host\nname: far\nspec: {spec}");
    let (_, host) = Host::read(parse_documents(&text).unwrap()[0].value.clone()).unwrap();
    Docker::of(&host, Path::new("/nonexistent"), &world.cluster).unwrap()
}

/// An instance is made, found, reached at a published port, told of, read, run in and removed.
async fn does_everything(world: &World, docker: &Docker) {
    docker.ping().await.unwrap();
    assert!(docker.info().await.unwrap().cpus > 0);
    let mut events = docker.events().await.unwrap();
    let mut spec = world.spec(1, world.template(&format!("echo begun; {SERVE}")));
    spec.instance.host = "far".parse().unwrap();
    let instance = &spec.instance;
    docker.create(&spec, &weir_config::Secrets::new()).await.unwrap();
    docker.start(instance).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().instance, *instance);

    let container = docker.inspect(instance).await.unwrap().unwrap();
    assert_eq!(container.address, Some(IpAddr::from([127, 0, 0, 1])), "where it is published");
    assert_ne!(container.port, PORT, "the engine has chosen one");
    answers(container.address.unwrap(), container.port).await;
    assert_eq!(docker.list().await.unwrap().containers, [container]);
    let command = ["sh", "-c", "echo out; exit 3"].map(str::to_owned);
    let output = docker.exec(instance, &command, GRACE).await.unwrap();
    assert_eq!((output.exit_code, &*output.lines[0].text), (3, "out"));
    docker.pause(instance).await.unwrap();
    docker.unpause(instance).await.unwrap();
    assert_eq!(texts(docker.logs(instance, None, false).await.unwrap()).await, ["begun"]);
    docker.stop(instance, GRACE).await.unwrap();
    let ended = docker.inspect(instance).await.unwrap().unwrap();
    assert_eq!(ended.address, None, "it is published no more");
    docker.remove(instance).await.unwrap();
    assert_eq!(docker.list().await.unwrap().containers, []);
}

async fn refusal(docker: &Docker) -> String {
    match docker.ping().await {
        Err(ProviderError::Unreachable { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_second_engine_of_this_machine_publishes_what_it_runs() {
    let world = World::new().await;
    let spec = format!("{{engine: \"unix://{}\"}}", socket().display());
    does_everything(&world, &engine(&world, &spec)).await;
}

#[tokio::test]
async fn an_engine_by_tls_proves_who_it_is_and_so_do_we() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display();
    for name in ["ours", "other"] {
        make_certificates(dir.path(), name);
    }
    let address = tls(dir.path(), "ours").await;
    let spec = |authority: &str, client: &str| {
        format!(
            "{{engine: \"tcp://{address}\", tls: {{ca_file: {folder}/{authority}.ca, \
             cert_file: {folder}/{client}.pem, key_file: {folder}/{client}.key}}}}"
        )
    };
    does_everything(&world, &engine(&world, &spec("ours", "ours"))).await;
    let impostor = refusal(&engine(&world, &spec("other", "ours"))).await;
    assert!(impostor.contains("invalid peer certificate"), "{impostor}");
    let stranger = engine(&world, &spec("ours", "other")).ping().await;
    assert!(matches!(stranger, Err(ProviderError::Unreachable { .. })), "{stranger:?}");
    let missing = refusal(&engine(&world, &spec("nobody", "ours"))).await;
    assert!(missing.contains("nobody.ca cannot be used"), "{missing}");
}

#[tokio::test]
async fn an_engine_by_ssh_is_that_of_a_known_host() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display();
    let sshd = Sshd::start(dir.path()).await;
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let spec = |login: &str, known: &str| {
        format!(
            "{{engine: \"ssh://{}@127.0.0.1:{}\", \
             ssh: {{identity_file: {folder}/{login}, known_hosts_file: {folder}/{known}}}}}",
            user.trim(),
            sshd.port
        )
    };
    does_everything(&world, &engine(&world, &spec("login", "known_hosts"))).await;
    let stranger = refusal(&engine(&world, &spec("machine", "known_hosts"))).await;
    assert!(stranger.contains("Permission denied"), "{stranger}");
    let impostor = refusal(&engine(&world, &spec("login", "nobody"))).await;
    assert!(impostor.contains("Host key verification failed"), "{impostor}");
}

/// An authority, and a certificate that it signed for both sides.
fn make_certificates(dir: &Path, name: &str) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let write = |kind: &str, text: String| fs::write(dir.join(format!("{name}.{kind}")), text);
    write("ca", authority.pem()).unwrap();
    write("pem", certificate.pem()).unwrap();
    write("key", key.serialize_pem()).unwrap();
}

/// TLS in front of the engine's socket, as dockerd has it with `--tlsverify`.
async fn tls(dir: &Path, name: &str) -> SocketAddr {
    let read = |kind: &str| fs::read(dir.join(format!("{name}.{kind}"))).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&read("ca")).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(&read("pem")).unwrap()],
            PrivateKeyDer::from_pem_slice(&read("key")).unwrap(),
        );
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(mut near) = acceptor.accept(stream).await else { return };
                let mut far = UnixStream::connect(socket()).await.unwrap();
                copy_bidirectional(&mut near, &mut far).await.ok();
            });
        }
    });
    address
}

/// A real one, for this user.
struct Sshd {
    process: Child,
    port: u16,
}

impl Sshd {
    async fn start(dir: &Path) -> Self {
        // Free a moment ago; the next one that is asked for is another one.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        for name in ["machine", "login"] {
            let key = ["-q", "-t", "ed25519", "-N", "", "-f"];
            let made = Command::new("ssh-keygen").args(key).arg(dir.join(name)).status();
            assert!(made.unwrap().success(), "ssh-keygen is of the package openssh-client");
        }
        fs::copy(dir.join("login.pub"), dir.join("authorized_keys")).unwrap();
        let key = fs::read_to_string(dir.join("machine.pub")).unwrap();
        fs::write(dir.join("known_hosts"), format!("[127.0.0.1]:{port} {key}")).unwrap();
        // It refuses to start without this one.
        fs::create_dir_all("/run/sshd").ok();
        let folder = dir.display();
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f", "/dev/null", "-o", "StrictModes=no", "-o", "PidFile=none"]);
        for option in [
            format!("HostKey={folder}/machine"),
            format!("AuthorizedKeysFile={folder}/authorized_keys"),
            format!("ListenAddress=127.0.0.1:{port}"),
            format!("SetEnv=DOCKER_HOST=unix://{}", socket().display()),
        ] {
            command.args(["-o", &option]);
        }
        let process = command.stderr(Stdio::null()).spawn();
        let process = process.expect("sshd is of the package openssh-server");
        eventually("sshd", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { process, port }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
