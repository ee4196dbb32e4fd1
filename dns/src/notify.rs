//! Tells secondaries that a zone has changed (RFC 1996).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::{Semaphore, watch},
    time::timeout,
};
use weir_config::{RecordSet, RecordType, Secondary, Snapshot, Snapshots, Zone};

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
/// How many secondaries are told at once.
const AT_ONCE: usize = 64;
const NOTIFY: u16 = 4 << 11;

/// Tells each secondary of each zone at the begin, and then whenever its serial number changes.
pub(crate) async fn run(
    snapshots: Snapshots,
    counters: Arc<TransferCounters>,
    mut is_over: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut served = Arc::new(Snapshot::default());
    let mut newer = snapshots.current();
    loop {
        for (zone, secondary) in to_tell(&served, &newer) {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (snapshots, counters) = (snapshots.clone(), counters.clone());
            let mut is_over = is_over.clone();
            tokio::spawn(async move {
                let _place = place;
                let is_heard = tokio::select! {
                    is_heard = tell(&snapshots, &zone, &secondary) => is_heard,
                    _ = is_over.wait_for(|is_over| *is_over) => return,
                };
                let counter = if is_heard { &counters.heard } else { &counters.silent };
                counter.fetch_add(1, Relaxed);
                if !is_heard {
                    let (zone, address) = (zone.name(), secondary.address);
                    tracing::warn!(%zone, %address, "a secondary does not hear of a change");
                }
            });
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

/// Whether a secondary has answered, or does not have to any more because the zone has changed
/// again.
async fn tell(snapshots: &Snapshots, zone: &Zone, secondary: &Secondary) -> bool {
    let mut wait = FIRST_WAIT;
    for _ in 0..MOST_MESSAGES {
        match timeout(wait, tell_once(zone, secondary)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => {
                tracing::debug!(%error, address = %secondary.address, "cannot notify");
                tokio::time::sleep(wait).await;
            }
            Err(_) => {}
        }
        wait *= 2;
        let served = snapshots.current();
        if served.zone(zone.name()).is_none_or(|served| served.serial() != zone.serial()) {
            return true;
        }
    }
    false
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
