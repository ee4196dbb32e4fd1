//! Whether this vantage is itself cut off: servers that have nothing to do with any target are
//! asked as targets are, and where most of them are not well either, nothing is said of targets.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};
use weir_config::{Moment, Numbers};
use weir_failover::{CONFIRM, Sample, Verdict, is_cut_off};

use super::{ask::Asked, pilot::Heard, schedule::Schedule};

/// What of it others see.
#[derive(Clone, Debug)]
pub(super) struct References {
    pub(super) is_cut_off: watch::Receiver<bool>,
    doubt: Arc<Notify>,
}

impl References {
    /// With the task that asks them, until nobody listens any more.
    pub(super) fn new(
        addresses: Vec<SocketAddr>,
        seed: u64,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (told, is_cut_off) = watch::channel(false);
        let doubt = Arc::new(Notify::new());
        let references = Self { is_cut_off, doubt: doubt.clone() };
        (references, ask(addresses, told, doubt, Numbers(seed)))
    }

    /// Has them asked at once, because a target is in doubt.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }
}

async fn ask(
    addresses: Vec<SocketAddr>,
    told: watch::Sender<bool>,
    doubt: Arc<Notify>,
    mut numbers: Numbers,
) {
    let now = Moment::now();
    let mut schedules: Vec<_> =
        addresses.iter().map(|_| Schedule::new(now, &mut numbers)).collect();
    // Of each at most ten a second, for less than a second.
    let (tell, mut heard) = mpsc::channel(64);
    let mut asked = now;
    while !told.is_closed() {
        let now = Moment::now();
        for (place, schedule) in schedules.iter_mut().enumerate() {
            if schedule.is_due(now, &mut numbers) {
                let (tell, patience) = (tell.clone(), schedule.patience());
                tokio::spawn(probe(place, addresses[place], now, patience, tell));
            }
        }
        // Whom nobody has proved yet is none to go by.
        let said = schedules.iter().map(Schedule::verdict);
        let proven = said.filter(|verdict| *verdict != Verdict::Unproven);
        let is_cut_off = is_cut_off(proven);
        told.send_if_modified(|told| std::mem::replace(told, is_cut_off) != is_cut_off);
        let next = schedules.iter().map(Schedule::next).min();
        let wait = async {
            match next {
                Some(next) => sleep(next.since(Moment::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = told.closed() => return,
            () = doubt.notified() => {
                // Doubt is told again and again; those in doubt themselves are asked as often.
                let now = Moment::now();
                if now.since(asked) >= CONFIRM {
                    asked = now;
                    schedules.iter_mut().for_each(|schedule| schedule.ask_now(now));
                }
            }
            Some((place, sample)) = heard.recv() => {
                let schedule: &mut Schedule = &mut schedules[place];
                schedule.take(sample, Moment::now());
            }
            () = wait => {}
        }
    }
}

async fn probe(
    place: usize,
    address: SocketAddr,
    sent: Moment,
    patience: std::time::Duration,
    tell: mpsc::Sender<(usize, Sample)>,
) {
    let late = async || {
        let _ = tell.send((place, Sample::Late { sent })).await;
    };
    let sample = match Asked::Reference.ask(address, patience, late).await {
        Heard::Answered(took) => Sample::Answered { sent, took },
        Heard::Late => Sample::Late { sent },
        Heard::Failed { late, .. } => Sample::Failed { sent, late },
    };
    // Nobody may want to know it any more.
    let _ = tell.send((place, sample)).await;
}
