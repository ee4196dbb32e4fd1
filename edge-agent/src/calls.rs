//! Apps here that call others: `http://NAME.weir.internal/`, of which their containers believe that it
//! is this machine.
//!
//! Their connections wait here until control takes them. Which app one is of is told by the address
//! that it comes from; whether it may, and where it goes, is decided where the proxy is.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    time::{sleep, timeout},
};
use weir_config::InstanceId;
use weir_deploy::{Caller, Duplex, Provider};

use crate::keeper::Keeper;

/// Calls that wait to be taken. One more is told so.
const WAITING: usize = 32;
/// How long one waits.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a caller may take to read why it is not served.
const LINGER: Duration = Duration::from_secs(2);
/// How often it is looked whether any app here calls others, and the port tried that was taken.
const LOOK: Duration = Duration::from_secs(2);

const AWAY: &str = "This device cannot reach Weir, through which other apps are called. Try again in \
                    a few seconds.\n";

type Call = (Caller, Box<dyn Duplex>);

/// Where calls wait.
#[derive(Debug)]
pub(crate) struct Calls {
    waiting: mpsc::Sender<Call>,
    taken: Mutex<mpsc::Receiver<Call>>,
}

impl Default for Calls {
    fn default() -> Self {
        let (waiting, taken) = mpsc::channel(WAITING);
        Self { waiting, taken: Mutex::new(taken) }
    }
}

impl Calls {
    /// The next one.
    pub(crate) async fn next(&self) -> Call {
        match self.taken.lock().await.recv().await {
            Some(call) => call,
            // The sender is as old as this.
            None => std::future::pending().await,
        }
    }
}

/// Takes connections at the bridge of the containers, as long as any app here calls others. Never
/// ends.
pub(crate) async fn receive(keeper: Arc<Keeper>, port: u16) {
    let mut last = String::new();
    loop {
        if keeper.look(|slice| slice.instances.values().any(|kept| kept.calls_others())) {
            let Err(error) = listen(&keeper, port).await;
            let error = error.to_string();
            // What stays the same is told once.
            if error != last {
                tracing::warn!(port, error, "apps here cannot call others");
                last = error;
            }
        }
        sleep(LOOK).await;
    }
}

async fn listen(keeper: &Arc<Keeper>, port: u16) -> io::Result<std::convert::Infallible> {
    let bridge = keeper.engine.bridge().await.map_err(io::Error::other)?;
    let listener = TcpListener::bind((bridge, port)).await?;
    tracing::info!(address = %listener.local_addr()?, "apps here may call others");
    loop {
        let (stream, from) = listener.accept().await?;
        tokio::spawn(take(keeper.clone(), stream, from));
    }
}

async fn take(keeper: Arc<Keeper>, stream: TcpStream, from: SocketAddr) {
    // Whatever is no app of Weir's has nothing to ask here.
    let Some(instance) = instance_at(&keeper, from.ip()).await else {
        return tracing::debug!(%from, "a call by no app of Weir's");
    };
    // Its answers are small and wanted at once; without that they are only slower.
    let _ = stream.set_nodelay(true);
    let waits = timeout(LIMIT, keeper.calls.waiting.reserve());
    let room = if keeper.is_led() { waits.await.ok().and_then(Result::ok) } else { None };
    match room {
        Some(room) => room.send((Caller { instance, from }, Box::new(stream))),
        None => {
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 5\r\n\
                 Connection: close\r\nContent-Length: {}\r\n\r\n{AWAY}",
                AWAY.len()
            );
            // A caller that is gone has nothing to be told.
            let _ = timeout(LINGER, tell(stream, answer.as_bytes())).await;
        }
    }
}

/// Answers, and closes only when the caller has: what it asked and nobody read would make the kernel
/// reset the connection, and the answer be lost.
async fn tell(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let mut asked = [0; 1024];
    while stream.read(&mut asked).await? > 0 {}
    Ok(())
}

/// Asked anew each time: an address may be another container's by now.
async fn instance_at(keeper: &Keeper, address: IpAddr) -> Option<InstanceId> {
    let listing = keeper.engine.list().await.ok()?;
    let found = listing.containers.into_iter().find(|found| found.address == Some(address))?;
    Some(found.instance)
}
