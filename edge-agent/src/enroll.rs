//! `weir-agent enroll`: trades an invitation for an identity.

use std::{fs, io, path::Path, time::Duration};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use tokio::time::timeout;
use weir_deploy::{Enrol, Enrolled};

use crate::{
    State, about, files,
    identity::{self, Identity},
    run, tls,
    transport::Way,
};

/// Make this machine a device of a Weir.
///
/// The key is made here and stays here. Tried again after it was interrupted, it goes on where it
/// was; a device that is enrolled stays who it is.
#[derive(Debug, Args)]
pub(crate) struct Enroll {
    /// Where Weir takes devices in
    #[arg(long, value_name = "HOST:PORT")]
    control: String,
    /// The invitation
    #[arg(long, env = "WEIR_AGENT_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: String,
    /// The name to have, if the invitation names none [default: this machine's]
    #[arg(long)]
    name: Option<String>,
    /// How control is reached: `network` also where tailscaled runs
    #[arg(long, value_enum, default_value_t = TransportArg::Network)]
    transport: TransportArg,
    /// What lets this device into the tailnet (a Tailscale auth key)
    #[arg(long, env = "WEIR_AGENT_AUTH_KEY", value_name = "KEY", hide_env_values = true)]
    auth_key: Option<String>,
    /// The server that runs the tailnet [default: Tailscale's own]
    #[arg(long, value_name = "URL")]
    tailnet_url: Option<String>,
    #[command(flatten)]
    docker: run::Engine,
    #[command(flatten)]
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TransportArg {
    Network,
    Tailnet,
}

/// Until control has answered, through whatever is between.
const LIMIT: Duration = Duration::from_secs(90);
/// More than any certificate.
const MAX_ANSWER: usize = 64 << 10;

impl Enroll {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let dir = &self.state.state_dir;
        if Identity::exists(dir) {
            let known = Identity::load(dir)?;
            bail!(
                "this device is enrolled already, as {} of {}; to make it another one, end the \
                 agent and remove {}",
                known.name,
                known.control,
                dir.display()
            );
        }
        fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let enrolled = runtime.block_on(async { timeout(LIMIT, self.enroll()).await });
        let identity = enrolled.map_err(|_| anyhow!("control does not answer"))??;
        println!("enrolled as {}", identity.name);
        println!("    start it: systemctl enable --now weir-agent   (or: weir-agent run)");
        Ok(())
    }

    async fn enroll(&self) -> anyhow::Result<Identity> {
        let dir = &self.state.state_dir;
        let (authority, secret) = parse(&self.token)?;
        let hostname = about::hostname();
        let name = self.name.clone().unwrap_or_else(|| hostname.clone());
        let way = match self.transport {
            TransportArg::Network => Way::Network,
            TransportArg::Tailnet => {
                Way::Tailnet { hostname: name.clone(), control_url: self.tailnet_url.clone() }
            }
        };
        let key = key(dir)?;
        let request = CertificateParams::new([])?.serialize_request(&key)?.pem()?;
        let about = about::about(&self.docker.docker).await;
        let enrol = Enrol { token: secret.to_owned(), name, request, about };
        let transport = way.open(dir, self.auth_key.clone()).await?;
        let stream = transport.connect(&self.control).await;
        let stream = stream.with_context(|| format!("{} cannot be reached", self.control))?;
        let stream = tls::connect_new(authority, stream).await?;
        let enrolled = ask(stream, &enrol).await?;
        let identity = Identity {
            name: enrolled.name.parse().map_err(|why: String| anyhow!(why))?,
            control: self.control.clone(),
            transport: way,
            certificate: enrolled.certificate,
            authority: enrolled.authority,
            cluster: enrolled.cluster,
            not_before: enrolled.now,
        };
        identity.save(dir)?;
        Ok(identity)
    }
}

async fn ask(
    stream: impl weir_deploy::Duplex + 'static,
    enrol: &Enrol,
) -> anyhow::Result<Enrolled> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = Full::<Bytes>::from(serde_json::to_vec(enrol)?);
    let request = Request::post("/enrol").header("host", "control").body(body)?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow!(error))?.to_bytes();
    match status {
        StatusCode::OK => Ok(serde_json::from_slice(&body)?),
        _ => bail!("refused: {}", String::from_utf8_lossy(&body).trim()),
    }
}

/// The key of this device, which is made before anything is asked: then whoever asks again is the
/// same one.
fn key(dir: &Path) -> anyhow::Result<KeyPair> {
    let file = identity::key_file(dir);
    match fs::read_to_string(&file) {
        Ok(pem) => {
            KeyPair::from_pem(&pem).with_context(|| format!("{} is damaged", file.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            files::write(&file, key.serialize_pem().as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("{}", file.display())),
    }
}

/// An invitation: the hash of the authority to believe (SHA-256, in hex), and a secret.
fn parse(token: &str) -> anyhow::Result<([u8; 32], &str)> {
    let parsed = token.trim().split_once('.').and_then(|(hash, secret)| {
        let digits = hash.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok());
        let bytes: Option<Vec<_>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        Some((bytes?.try_into().ok()?, secret))
    });
    parsed.ok_or_else(|| anyhow!("this is no invitation; copy the whole line that was printed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_a_hash_and_a_secret() {
        let hash = "0f".repeat(32);
        let token = format!("{hash}.secret");
        assert_eq!(parse(&token).unwrap(), ([15; 32], "secret"));
        for bad in ["", "secret", ".secret", &hash, &format!("{}.x", "0g".repeat(32)), "é.é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_asks_again_has_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = key(dir.path()).unwrap();
        assert_eq!(key(dir.path()).unwrap().serialize_pem(), first.serialize_pem());
    }
}
