//! How quick the embedded tailnet is beside plain TCP, both on this machine: the way back and forth
//! of one byte, and how much goes through one connection. The tailnet goes through its relay.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};
use weir_deploy::{Arrivals, Arrived, Duplex, Network, TailnetOptions, Transport};
use weir_test_tailnet::Tailnet;

const ROUNDS: usize = 1000;
const BYTES: usize = 32 << 20;
const DEADLINE: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let dir = tempfile::tempdir()?;
    let tailnet = Tailnet::start().await?;
    let options = |name: &str| options(&tailnet, dir.path(), name);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    measure("plain TCP", &listener, &Network, &address).await?;
    let joined = options("device").transport().await?;
    let arrivals = options("control").arrivals(8601)?;
    measure("embedded tailnet", &*arrivals, &*joined, "control:8601").await
}

fn options(tailnet: &Tailnet, dir: &Path, name: &str) -> TailnetOptions {
    TailnetOptions {
        hostname: name.to_owned(),
        auth_key: Some(tailnet.auth_key().to_owned()),
        control_url: Some(tailnet.control_url()),
        key_file: dir.join(name),
    }
}

async fn measure(
    name: &str,
    arrivals: &dyn Arrivals,
    transport: &dyn Transport,
    to: &str,
) -> Result<(), Error> {
    let connected = async {
        loop {
            // It may not see the other one at once.
            match transport.connect(to).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let (arrived, mut stream) =
        timeout(DEADLINE, async { tokio::join!(arrivals.accept(), connected) }).await?;
    let Arrived { stream: other, .. } = arrived?;
    let answering = tokio::spawn(answer(other));

    let mut waits = Vec::with_capacity(ROUNDS);
    let mut byte = [0; 1];
    for _ in 0..ROUNDS {
        let began = Instant::now();
        stream.write_all(&byte).await?;
        stream.read_exact(&mut byte).await?;
        waits.push(began.elapsed());
    }
    waits.sort();
    let began = Instant::now();
    let block = vec![0; 64 << 10];
    for _ in 0..BYTES / block.len() {
        stream.write_all(&block).await?;
    }
    // The last byte that arrives is answered.
    stream.read_exact(&mut byte).await?;
    let rate = (BYTES >> 20) as f64 / began.elapsed().as_secs_f64();
    let [median, late] = [waits[ROUNDS / 2], waits[ROUNDS * 99 / 100]];
    println!("{name:<20} p50 {median:>10.1?}  p99 {late:>10.1?}  {rate:>8.1} MiB/s");
    drop(stream);
    answering.await??;
    Ok(())
}

/// Each of so many single bytes, and then one for all that follow.
async fn answer(mut stream: Box<dyn Duplex>) -> Result<(), std::io::Error> {
    let mut byte = [0; 1];
    for _ in 0..ROUNDS {
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
    }
    read_all(&mut stream).await?;
    stream.write_all(&byte).await?;
    // The other side has to read before this end may go.
    stream.read(&mut byte).await.map(drop)
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let (mut block, mut left) = (vec![0; 64 << 10], BYTES);
    while left > 0 {
        let read = stream.read(&mut block).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left -= read;
    }
    Ok(())
}
