//! Which target a client goes to: the same in DNS answers and in the proxy, and always the same one
//! for as long as the shares are.

use std::net::IpAddr;

use super::{Shares, WHOLE};
use crate::hash::{below, stable_hash};

/// Clients in 10,000 buckets, each with its target.
///
/// Targets bid for each bucket, by weighted rendezvous hashing (Schindelhauer and Schomaker, 2005):
/// one that gets a larger share outbids others in some more buckets and loses none. So a client
/// changes its target only if the old one gives or the new one takes, and nobody goes to and fro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets(Box<[Option<u8>]>);

impl Buckets {
    /// For targets of these names, in the order of the shares.
    pub fn new<N: AsRef<str>>(names: &[N], shares: &Shares) -> Self {
        let bids = || names.iter().map(|name| name.as_ref().as_bytes()).zip(shares.as_slice());
        Self((0..WHOLE).map(|bucket| winner(bucket, bids())).collect())
    }

    /// The place of the target that this client goes to; `None` if nobody has a share.
    pub fn target(&self, client: IpAddr) -> Option<usize> {
        self.0[bucket(client)].map(usize::from)
    }
}

/// The place of the target that a client goes to among those with these names and shares, as
/// [`Buckets`] of them would have it; for whom asks once only.
pub(crate) fn target_of<'a>(
    client: IpAddr,
    targets: impl Iterator<Item = (&'a [u8], &'a u16)>,
) -> Option<usize> {
    winner(bucket(client) as u16, targets).map(usize::from)
}

/// Who is told apart by an address: networks of 24 bits, and of 56 of IPv6, because a resolver
/// tells no more of its client (RFC 7871), and a client moves about within them.
fn bucket(client: IpAddr) -> usize {
    let hash = match client.to_canonical() {
        IpAddr::V4(address) => stable_hash(&[&address.octets()[..3]]),
        IpAddr::V6(address) => stable_hash(&[&address.octets()[..7]]),
    };
    below(hash, usize::from(WHOLE))
}

/// Whoever needs the least of luck for its weight: `-log(luck) / weight`.
fn winner<'a>(bucket: u16, targets: impl Iterator<Item = (&'a [u8], &'a u16)>) -> Option<u8> {
    let bids = targets.zip(0..).filter(|((_, share), _)| **share > 0);
    let bids = bids.map(|((name, share), place)| {
        let luck = stable_hash(&[name, &bucket.to_be_bytes()]);
        (minus_log2(luck), u64::from(*share), place)
    });
    let best = bids.reduce(|best, bid| if bid.0 * best.1 < best.0 * bid.1 { bid } else { best });
    best.map(|(.., place)| place)
}

/// `-log2(x / 2^64)`, in units of 2^-20: by whole numbers, so that it is the same on every machine.
fn minus_log2(x: u64) -> u64 {
    const FRACTION: u32 = 20;
    let x = x.max(1);
    let zeros = x.leading_zeros();
    // From 1 to 2, as a fixed-point number with 63 bits behind the point.
    let mut mantissa = x << zeros;
    let mut log = u64::from(63 - zeros) << FRACTION;
    for bit in (0..FRACTION).rev() {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let carry = (square >> 127) as u32;
        log |= u64::from(carry) << bit;
        mantissa = (square >> (63 + carry)) as u64;
    }
    (64 << FRACTION) - log
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["cdn-a", "cdn-b", "own"];

    fn buckets(weights: &[u64]) -> Vec<Option<u8>> {
        Buckets::new(&NAMES, &Shares::by_weight(weights)).0.into()
    }

    fn count(buckets: &[Option<u8>], target: u8) -> usize {
        buckets.iter().filter(|bucket| **bucket == Some(target)).count()
    }

    #[test]
    fn each_target_has_its_share() {
        for weights in [&[1, 0, 0][..], &[5, 95, 0], &[25, 75, 0], &[50, 30, 20], &[1, 1, 98]] {
            let buckets = buckets(weights);
            let total: u64 = weights.iter().sum();
            for (target, weight) in weights.iter().enumerate() {
                let has = count(&buckets, target as u8);
                let due = (weight * u64::from(WHOLE)) as f64 / total as f64;
                let sigma = (due * (1.0 - due / 10_000.0)).sqrt();
                let off = (has as f64 - due).abs();
                assert!(off <= 4.0 * sigma, "{weights:?}: target {target} has {has}, not {due}");
            }
        }
    }

    /// Goal F7: no client that neither of the two targets concerns is moved.
    #[test]
    fn a_target_that_gets_more_gets_it_from_the_others_and_moves_nobody_else() {
        // As it comes back, first beside one other, then beside two.
        for steps in [
            &[[0, 100, 0], [5, 95, 0], [25, 75, 0], [50, 50, 0], [100, 0, 0]][..],
            &[[0, 60, 40], [50, 570, 380], [250, 450, 300], [500, 300, 200]],
        ] {
            for pair in steps.windows(2) {
                let (before, after) = (buckets(&pair[0]), buckets(&pair[1]));
                for (bucket, (before, after)) in before.iter().zip(&after).enumerate() {
                    assert!(before == after || *after == Some(0), "{pair:?}: bucket {bucket}");
                }
            }
        }
    }

    #[test]
    fn a_client_is_a_network_and_nobody_has_nobody_s_share() {
        let shares = Buckets::new(&NAMES, &Shares::by_weight(&[1, 1, 1]));
        let target = |address: &str| shares.target(address.parse().unwrap());
        assert_eq!(target("192.0.2.1"), target("192.0.2.254"));
        assert_eq!(target("192.0.2.1"), target("::ffff:192.0.2.9"));
        assert_eq!(target("2001:db8:0:12::1"), target("2001:db8:0:34:5::1"));
        let far = (0..=255).map(|i| target(&format!("198.51.{i}.1")));
        assert!((0..3).all(|t| far.clone().any(|target| target == Some(t))));
        let nobody = Buckets::new(&NAMES, &Shares::by_weight(&[0, 0, 0]));
        assert_eq!(nobody.target("192.0.2.1".parse().unwrap()), None);
    }

    /// It is a function of the law, and of no machine.
    #[test]
    fn logarithms_are_what_they_should_be() {
        for x in [1, 2, 3, 1 << 20, u64::MAX / 3, 1 << 63, u64::MAX] {
            let exact = (64.0 - (x as f64).log2()) * f64::from(1 << 20);
            assert!((minus_log2(x) as f64 - exact).abs() <= 2.0, "{x}: {}", minus_log2(x));
        }
    }
}
