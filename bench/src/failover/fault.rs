//! Targets that break when they are told to.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// How a target answers, or does not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    /// Nobody listens, and what was connected is reset.
    Refuse,
    /// Connections are taken, and reset by the first request.
    Reset,
    /// Connections are taken, and nothing is answered.
    Silence,
    /// Every packet to it is lost.
    BlackHole,
    /// This part of the packets to it is lost.
    Loss(f64),
    /// So many of a hundred answers say that it fails.
    Errors(u64),
    /// Every answer comes so much later.
    Delay(Duration),
    /// What checks ask for is not answered, and what clients ask for is.
    Checks,
}

/// What checks ask for.
pub(super) const CHECK: &str = "/health";

/// An HTTP server that answers with its name.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    fault: watch::Sender<Fault>,
    /// While packets to it are lost.
    rule: Option<Rule>,
    serving: JoinHandle<()>,
}

impl Target {
    /// On this address, at a port that nobody has.
    pub(super) async fn start(name: &'static str, address: IpAddr) -> anyhow::Result<Self> {
        let listener = listen((address, 0).into())?;
        let address = listener.local_addr()?;
        let (fault, faults) = watch::channel(Fault::None);
        let serving = tokio::spawn(serve(name, address, listener, faults));
        Ok(Self { name, address, fault, rule: None, serving })
    }

    pub(super) fn set(&mut self, fault: Fault) -> anyhow::Result<()> {
        self.rule = match fault {
            Fault::BlackHole => Some(Rule::drop(self.address, None)?),
            Fault::Loss(part) => Some(Rule::drop(self.address, Some(part))?),
            _ => None,
        };
        self.fault.send_replace(fault);
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // The port is its own, also right after connections to it were reset.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn serve(
    name: &'static str,
    address: SocketAddr,
    first: TcpListener,
    mut faults: watch::Receiver<Fault>,
) {
    let (mut listener, answers) = (Some(first), Arc::new(AtomicU64::new(0)));
    loop {
        let accepting = match listener.take() {
            Some(listener) => listener,
            None => match listen(address) {
                Ok(listener) => listener,
                Err(error) => return eprintln!("{name} cannot listen again: {error}"),
            },
        };
        let later = faults.clone();
        loop {
            tokio::select! {
                refuses = faults.wait_for(|fault| *fault == Fault::Refuse) => {
                    if refuses.is_err() {
                        return;
                    }
                    break;
                }
                accepted = accepting.accept() => if let Ok((stream, _)) = accepted {
                    let connection = Connection { name, stream, answers: answers.clone() };
                    tokio::spawn(connection.serve(later.clone()));
                }
            }
        }
        drop(accepting);
        if faults.wait_for(|fault| *fault != Fault::Refuse).await.is_err() {
            return;
        }
    }
}

struct Connection {
    name: &'static str,
    stream: TcpStream,
    /// Of all connections.
    answers: Arc<AtomicU64>,
}

impl Connection {
    async fn serve(mut self, mut faults: watch::Receiver<Fault>) {
        let mut refuses = faults.clone();
        loop {
            let head = tokio::select! {
                head = head(&mut self.stream) => head,
                _ = refuses.wait_for(|fault| *fault == Fault::Refuse) => return self.reset(),
            };
            let Some(head) = head else { return };
            let fault = *faults.borrow_and_update();
            let is_check = head.starts_with(format!("GET {CHECK}").as_bytes());
            let silence = fault == Fault::Silence || fault == Fault::Checks && is_check;
            let status = match fault {
                Fault::Reset | Fault::Refuse => return self.reset(),
                _ if silence => {
                    // Whoever still waits when it is over is not answered either.
                    let _ = faults.changed().await;
                    return;
                }
                Fault::Delay(delay) => {
                    sleep(delay).await;
                    "200 OK"
                }
                Fault::Errors(percent) => {
                    let number = self.answers.fetch_add(1, Relaxed);
                    // Spread, and the same in every run.
                    let fails = number.wrapping_mul(61) % 100 < percent;
                    if fails { "503 Service Unavailable" } else { "200 OK" }
                }
                _ => "200 OK",
            };
            let (name, length) = (self.name, self.name.len());
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{name}");
            if self.stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn reset(self) {
        // Without it there would be a FIN, which is only a kind of it.
        let _ = self.stream.set_zero_linger();
    }
}

/// The head of the next request; `None` at the end of the connection. No request here has a body.
async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// A rule of the packet filter on the way to one port of this machine; gone when dropped.
struct Rule(Vec<String>);

impl Rule {
    fn drop(to: SocketAddr, part: Option<f64>) -> anyhow::Result<Self> {
        let (address, port) = (to.ip().to_string(), to.port().to_string());
        let mut rule: Vec<_> = ["INPUT", "-i", "lo", "-p", "tcp", "-d", &address, "--dport", &port]
            .map(str::to_owned)
            .into();
        if let Some(part) = part {
            let part = part.to_string();
            let random = ["-m", "statistic", "--mode", "random", "--probability", &part];
            rule.extend(random.map(str::to_owned));
        }
        rule.extend(["-j", "DROP"].map(str::to_owned));
        iptables("-I", &rule)?;
        Ok(Self(rule))
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        if let Err(error) = iptables("-D", &self.0) {
            eprintln!("a rule of the packet filter is left: {error:#}");
        }
    }
}

fn iptables(what: &str, rule: &[String]) -> anyhow::Result<()> {
    let run = Command::new("iptables").arg("-w").arg(what).args(rule).output();
    let run = run.context("iptables cannot be run; run `make setup`, and as root")?;
    let told = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "iptables {what} {}: {told}", rule.join(" "));
    Ok(())
}
