//! Tells secondaries that a zone has changed (RFC 1996).

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::{Semaphore, watch},
    time::timeout,
};
use weir_config::{DnsName, RecordSet, RecordType, Secondary, Snapshot, Snapshots, Zone};

use crate::{
    request::{CLASS_IN, HEADER, flag},
    respond::now,
    transfer::TransferCounters,
    tsig::Signer,
};

/// How long it is waited for an answer to the first message; to each further one twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MOST_MESSAGES: u32 = 5;
/// Changes within this are told together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Of how many zones one secondary is told at once.
const AT_ONCE: usize = 16;
const NOTIFY: u16 = 4 << 11;

/// Tells each secondary of each zone at the begin, and then whenever its serial number changes.
pub(crate) async fn run(
    snapshots: Snapshots,
    counters: Arc<TransferCounters>,
    mut is_over: watch::Receiver<bool>,
) {
    let mut places = HashMap::new();
    let told =
        Arc::new(Told { snapshots: snapshots.clone(), counters, under_way: Mutex::default() });
    let mut served = Arc::new(Snapshot::default());
    let mut newer = snapshots.current();
    loop {
        for (zone, secondary) in to_tell(&served, &newer) {
            // One that is silent keeps nobody else waiting.
            let place = places.entry(secondary.address);
            let place = place.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone();
            let (told, mut is_over) = (told.clone(), is_over.clone());
            if told.begin(&zone, &secondary) {
                tokio::spawn(async move {
                    tokio::select! {
                        () = told.tell(&zone, &secondary, &place) => {}
                        _ = is_over.wait_for(|is_over| *is_over) => {}
                    }
                });
            }
        }
        served = newer;
        let changed = async {
            snapshots.newer_than(served.generation).await;
            tokio::time::sleep(TOGETHER).await;
            snapshots.current()
        };
        newer = tokio::select! {
            newer = changed => newer,
            _ = is_over.wait_for(|is_over| *is_over) => return,
        };
    }
}

/// What is being told.
#[derive(Debug)]
struct Told {
    snapshots: Snapshots,
    counters: Arc<TransferCounters>,
    /// However often a zone changes, one task tells a secondary of it.
    under_way: Mutex<HashSet<(DnsName, SocketAddr)>>,
}

impl Told {
    /// Whether nobody tells a secondary of a zone yet; from now on somebody does.
    fn begin(&self, zone: &Zone, secondary: &Secondary) -> bool {
        self.lock().insert((zone.name().clone(), secondary.address))
    }

    fn end(&self, zone: &Zone, secondary: &Secondary) {
        self.lock().remove(&(zone.name().clone(), secondary.address));
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(DnsName, SocketAddr)>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a secondary of a zone until it knows of its last change, or is silent for too long.
    async fn tell(&self, zone: &Zone, secondary: &Secondary, place: &Semaphore) {
        loop {
            let Ok(_place) = place.acquire().await else { return };
            let served = self.snapshots.current().zone(zone.name()).cloned();
            let Some(served) = served else { return self.end(zone, secondary) };
            match tell(&self.snapshots, &served, secondary).await {
                Outcome::Heard => {
                    self.counters.heard.fetch_add(1, Relaxed);
                }
                Outcome::Silent => {
                    self.counters.silent.fetch_add(1, Relaxed);
                    let (zone, address) = (zone.name(), secondary.address);
                    tracing::warn!(%zone, %address, "a secondary does not hear of a change");
                }
                Outcome::Superseded => {}
            }
            // In this order, so that a change that comes now is seen here or by who begins anew.
            self.end(zone, secondary);
            let is_last = !has_changed(&self.snapshots.current(), &served);
            if is_last || !self.begin(zone, secondary) {
                return;
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }
}

fn to_tell(served: &Snapshot, newer: &Snapshot) -> Vec<(Arc<Zone>, Secondary)> {
    let has_changed = |zone: &&Arc<Zone>| match served.zone(zone.name()) {
        Some(former) => {
            !Arc::ptr_eq(former, zone)
                && (former.serial(), former.secondaries()) != (zone.serial(), zone.secondaries())
        }
        None => zone.soa().is_some(),
    };
    let zones = newer.zones().filter(|zone| !zone.secondaries().is_empty()).filter(has_changed);
    let each = |zone: &Arc<Zone>| {
        let secondaries = zone.secondaries().iter();
        secondaries.map(|secondary| (zone.clone(), secondary.clone())).collect::<Vec<_>>()
    };
    zones.flat_map(each).collect()
}

fn has_changed(served: &Snapshot, zone: &Zone) -> bool {
    served.zone(zone.name()).is_none_or(|served| served.serial() != zone.serial())
}

/// What has come of telling a secondary.
enum Outcome {
    Heard,
    Silent,
    /// The zone has changed again meanwhile.
    Superseded,
}

async fn tell(snapshots: &Snapshots, zone: &Zone, secondary: &Secondary) -> Outcome {
    let mut wait = FIRST_WAIT;
    for _ in 0..MOST_MESSAGES {
        match timeout(wait, tell_once(zone, secondary)).await {
            Ok(Ok(())) => return Outcome::Heard,
            Ok(Err(error)) => {
                tracing::debug!(%error, address = %secondary.address, "cannot notify");
                tokio::time::sleep(wait).await;
            }
            Err(_) => {}
        }
        wait *= 2;
        if has_changed(&snapshots.current(), zone) {
            return Outcome::Superseded;
        }
    }
    Outcome::Silent
}

async fn tell_once(zone: &Zone, secondary: &Secondary) -> io::Result<()> {
    let any: SocketAddr = match secondary.address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(secondary.address).await?;
    let id: u16 = rand::random();
    let mut message = message(zone, id);
    if let Some(key) = &secondary.key {
        Signer::new(key.clone(), id).sign(&mut message, now() / 1_000_000);
    }
    socket.send(&message).await?;
    let mut answer = [0; 512];
    loop {
        let len = socket.recv(&mut answer).await?;
        // Whatever else it says, it has heard.
        let is_answer = len >= HEADER && answer[2] & 0x80 != 0 && answer[..2] == id.to_be_bytes();
        if is_answer {
            return Ok(());
        }
    }
}

/// Names the zone, and its SOA as a hint.
fn message(zone: &Zone, id: u16) -> Vec<u8> {
    let soa = zone.soa().into_iter().flat_map(RecordSet::ownerless);
    let answers = zone.soa().map_or(0, RecordSet::len) as u16;
    let header = [id, NOTIFY | flag::AUTHORITATIVE, 1, answers, 0, 0];
    let mut message: Vec<u8> = header.into_iter().flat_map(u16::to_be_bytes).collect();
    message.extend_from_slice(zone.name().wire());
    message.extend_from_slice(&RecordType::SOA.0.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    for record in soa {
        message.extend_from_slice(&[0xc0, HEADER as u8]);
        message.extend_from_slice(record);
    }
    message
}
