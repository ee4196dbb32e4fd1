//! Token buckets, of an app and of its clients, in atomics.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{ClientKey, Rate};

/// A token bucket as the generic cell rate algorithm keeps it: the time, in nanoseconds, at which
/// it would be full again. So an empty state is a full bucket, and there is nothing to refill.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes a token; if there is none, says how long until there is.
    pub(super) fn take(&self, rate: &Rate, now: u64) -> Result<(), Duration> {
        let interval = nanos(rate.per / rate.requests.max(1)).max(1);
        let tolerance = interval.saturating_mul(u64::from(rate.burst.saturating_sub(1)));
        // What an emptied bucket of this rate has. One may have more from before the rate changed,
        // or, among clients, from another's.
        let emptied = now.saturating_add(tolerance).saturating_add(interval);
        let mut full_at = self.0.load(Relaxed);
        loop {
            let from = full_at.clamp(now, emptied);
            let lacking = (from - now).saturating_sub(tolerance);
            let next = if lacking == 0 { from.saturating_add(interval) } else { from };
            // Most refusals write nothing.
            if next != full_at
                && let Err(actual) = self.0.compare_exchange_weak(full_at, next, Relaxed, Relaxed)
            {
                full_at = actual;
                continue;
            }
            return if lacking == 0 { Ok(()) } else { Err(Duration::from_nanos(lacking)) };
        }
    }

    fn full_at(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The buckets of an app's clients: 128 KiB, however many clients there are.
///
/// A client has one of the [`WAYS`] slots of its set. While one of them is full it stands for
/// nobody, so a newcomer takes it. When none is, the newcomer takes the fullest over *as it is*:
/// nobody gets a fresh bucket by being forgotten, so strangers with any number of addresses have
/// together what 8192 clients may have. An innocent newcomer may find some tokens missing then, and
/// all of them only if every bucket of its set is empty. The hash is keyed, so that nobody can aim.
#[derive(Debug)]
pub(super) struct ClientBuckets {
    key: RandomState,
    slots: Box<[Slot]>,
}

/// `client` is the keyed hash of who it is; 0 for nobody.
#[derive(Debug, Default)]
struct Slot {
    client: AtomicU64,
    bucket: Bucket,
}

const SETS: usize = 1024;
const WAYS: usize = 8;

impl Default for ClientBuckets {
    fn default() -> Self {
        let slots = (0..SETS * WAYS).map(|_| Slot::default()).collect();
        Self { key: RandomState::new(), slots }
    }
}

impl ClientBuckets {
    pub(super) fn take(&self, client: ClientKey, rate: &Rate, now: u64) -> Result<(), Duration> {
        self.slot(self.key.hash_one(client)).bucket.take(rate, now)
    }

    /// A client's slot, taken over from another if it has none.
    ///
    /// Two threads may race for one slot. The loser looks again, so that both of one client's
    /// requests meet in it; of two clients, one spends from the other's bucket once.
    fn slot(&self, hash: u64) -> &Slot {
        let first = (hash as usize % SETS) * WAYS;
        let set = &self.slots[first..first + WAYS];
        let client = hash.max(1);
        loop {
            if let Some(slot) = set.iter().find(|slot| slot.client.load(Relaxed) == client) {
                return slot;
            }
            let Some(fullest) = set.iter().min_by_key(|slot| slot.bucket.full_at()) else {
                return &self.slots[0];
            };
            let former = fullest.client.load(Relaxed);
            if fullest.client.compare_exchange(former, client, Relaxed, Relaxed).is_ok() {
                return fullest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(requests: u32, burst: u32) -> Rate {
        Rate { requests, per: Duration::from_secs(1), burst }
    }

    fn client(address: impl Into<IpAddr>) -> ClientKey {
        ClientKey::from(address.into())
    }

    fn taken(bucket: &Bucket, rate: &Rate, now: u64) -> usize {
        (0..1000).take_while(|_| bucket.take(rate, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (bucket, rate) = (Bucket::default(), rate(10, 5));
        assert_eq!(taken(&bucket, &rate, SECOND), 5);
        assert_eq!(bucket.take(&rate, SECOND), Err(Duration::from_millis(100)));
        assert_eq!(taken(&bucket, &rate, SECOND + SECOND / 10), 1);
        // However long nobody came, no more than a burst has gathered.
        assert_eq!(taken(&bucket, &rate, 100 * SECOND), 5);
        // Over a long time, exactly the rate passes (and the burst of its beginning).
        let bucket = Bucket::default();
        let passed =
            (0..100_000).filter(|i| bucket.take(&rate, SECOND + i * SECOND / 1000).is_ok()).count();
        assert!((1003..=1005).contains(&passed), "{passed}");
    }

    #[test]
    fn a_looser_rate_is_not_held_back_by_the_former_one() {
        let bucket = Bucket::default();
        let daily = Rate { requests: 1, per: Duration::from_secs(24 * 60 * 60), burst: 1 };
        bucket.take(&daily, SECOND).unwrap();
        assert!(bucket.take(&daily, 2 * SECOND).is_err());
        let looser = rate(10, 1);
        assert_eq!(bucket.take(&looser, 2 * SECOND), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(&looser, 2 * SECOND + SECOND / 10), Ok(()));
    }

    #[test]
    fn each_client_has_its_own_bucket_and_an_ipv6_network_is_one_client() {
        let (clients, rate) = (ClientBuckets::default(), rate(1, 1));
        let v6 = |bits: u128| client(Ipv6Addr::from_bits((0x2001_0db8 << 96) + bits));
        let v4 = |bits| client(Ipv4Addr::from_bits(bits));
        for one in [v4(1), v4(2), v6(1 << 64), v6(2 << 64)] {
            assert!(clients.take(one, &rate, SECOND).is_ok(), "{one:?}");
            assert!(clients.take(one, &rate, SECOND).is_err(), "{one:?}");
        }
        assert!(clients.take(v6((1 << 64) + 5), &rate, SECOND).is_err(), "the same network");
        assert!(clients.take(v4(1), &rate, 2 * SECOND).is_ok());
    }

    #[test]
    fn a_client_with_any_number_of_addresses_gets_no_more_than_the_table_holds() {
        let clients = ClientBuckets::default();
        let rate = Rate { requests: 1, per: Duration::from_secs(3600), burst: 3 };
        let ask = |address| clients.take(client(Ipv4Addr::from_bits(address)), &rate, SECOND);
        let passed = (0..10).flat_map(|_| 0..20_000).filter(|i| ask(*i).is_ok()).count();
        assert!(passed <= 3 * SETS * WAYS, "{passed}");
        assert!(passed > 2 * SETS * WAYS, "hardly any set is left unused: {passed}");
        // Once the buckets have filled, newcomers have all of their tokens again.
        let later = SECOND + 4 * 3600 * SECOND;
        let newcomer = client(Ipv4Addr::from_bits(1 << 30));
        assert!((0..3).all(|_| clients.take(newcomer, &rate, later).is_ok()));
        assert!(clients.take(newcomer, &rate, later).is_err());
    }

    #[test]
    fn few_clients_never_meet_in_one_bucket() {
        let (clients, rate) = (ClientBuckets::default(), rate(1, 1));
        // A quarter of the slots: a set overflows with a probability of a few in a thousand.
        let ask = |i: u32| clients.take(client(Ipv4Addr::from_bits(i)), &rate, SECOND);
        let refused = (0..2048).filter(|i| ask(*i).is_err()).count();
        assert!(refused < 20, "{refused} of 2048 innocents");
    }
}
