//! From how far each target is admitted to what each one gets.

use weir_config::{FailoverLaw, MAX_TARGETS, Shares, Sharing, WHOLE};

/// A whole share, in the units of the sums below.
const ALL: u64 = 1_000_000;

/// Something of each target; those that there are not have nothing.
pub(super) type Each<T> = [T; MAX_TARGETS];

/// What each target gets, if it is admitted to so many ten-thousandths of what is its own, at so
/// many requests per second.
///
/// What one does not get is the next one's, or that of all others that are fully admitted; no one
/// gets more than its capacity, and what nobody has room for stays with the most preferred one.
pub(super) fn shares(law: &FailoverLaw, admitted: &Each<u16>, rate: f64) -> Shares {
    let room = |target: usize| match law.targets[target].capacity {
        Some(capacity) if rate > f64::from(capacity) => {
            (f64::from(capacity) / rate * ALL as f64) as u64
        }
        _ => ALL,
    };
    let targets = law.targets.len().min(MAX_TARGETS);
    let mut parts = match law.sharing {
        Sharing::Ordered => ordered(&admitted[..targets], room),
        Sharing::Weighted => weighted(law, &admitted[..targets], room),
    };
    let left = ALL.saturating_sub(parts.iter().sum());
    // Less than a client is of the rounding, and all of it means that nobody is admitted.
    if left * u64::from(WHOLE) >= ALL && left < ALL {
        parts[0] += left;
    }
    Shares::by_weight(&parts[..targets])
}

fn ordered(admitted: &[u16], room: impl Fn(usize) -> u64) -> Each<u64> {
    let (mut parts, mut left) = ([0; MAX_TARGETS], ALL);
    for (target, admitted) in admitted.iter().enumerate() {
        parts[target] = (left * u64::from(*admitted) / u64::from(WHOLE)).min(room(target));
        left -= parts[target];
    }
    parts
}

fn weighted(law: &FailoverLaw, admitted: &[u16], room: impl Fn(usize) -> u64) -> Each<u64> {
    let weight = |target: usize| u64::from(law.targets[target].weight);
    let total: u64 = (0..admitted.len()).map(weight).sum();
    let mut parts = [0; MAX_TARGETS];
    // Those that are admitted in part get that part of their own share.
    for (target, admitted) in admitted.iter().enumerate().filter(|(_, part)| **part < WHOLE) {
        let own = ALL * weight(target) / total.max(1);
        parts[target] = (own * u64::from(*admitted) / u64::from(WHOLE)).min(room(target));
    }
    // The others share the rest by weight; who is full is left out of the next round.
    let mut is_open: Each<bool> =
        std::array::from_fn(|target| admitted.get(target) == Some(&WHOLE));
    loop {
        let left = ALL.saturating_sub(parts.iter().sum());
        let open = || (0..admitted.len()).filter(|target| is_open[*target]);
        let weights: u64 = open().map(weight).sum();
        if weights == 0 {
            return parts;
        }
        let share = |target: usize| left * weight(target) / weights;
        match open().find(|target| share(*target) > room(*target)) {
            Some(full) => (parts[full], is_open[full]) = (room(full), false),
            None => {
                open().for_each(|target| parts[target] = share(target));
                return parts;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_config::TargetLaw;

    use super::*;

    fn check(sharing: Sharing, targets: &[(u16, Option<u32>)], admitted: &[u16], is: &[u16]) {
        let mut law = FailoverLaw { sharing, ..FailoverLaw::ordered(0) };
        let target = |(weight, capacity): &(u16, Option<u32>)| TargetLaw {
            weight: *weight,
            capacity: *capacity,
        };
        law.targets = targets.iter().map(target).collect();
        let mut each = [0; MAX_TARGETS];
        each[..admitted.len()].copy_from_slice(admitted);
        let shares = shares(&law, &each, 1000.0);
        assert_eq!(shares.as_slice(), is, "{sharing:?} {targets:?} {admitted:?}");
    }

    #[test]
    fn in_order_what_one_does_not_get_is_the_next_one_s() {
        let any = &[(1, None); 3];
        check(Sharing::Ordered, any, &[WHOLE; 3], &[WHOLE, 0, 0]);
        check(Sharing::Ordered, any, &[0, WHOLE, WHOLE], &[0, WHOLE, 0]);
        check(Sharing::Ordered, any, &[500, WHOLE, WHOLE], &[500, 9500, 0]);
        check(Sharing::Ordered, any, &[500, 0, WHOLE], &[500, 0, 9500]);
        check(Sharing::Ordered, any, &[0; 3], &[0; 3]);
    }

    #[test]
    fn by_weight_what_one_does_not_get_is_shared_by_the_others() {
        let of = &[(50, None), (30, None), (20, None)];
        check(Sharing::Weighted, of, &[WHOLE; 3], &[5000, 3000, 2000]);
        check(Sharing::Weighted, of, &[0, WHOLE, WHOLE], &[0, 6000, 4000]);
        check(Sharing::Weighted, of, &[500, WHOLE, WHOLE], &[250, 5850, 3900]);
    }

    #[test]
    fn nobody_gets_more_than_its_capacity() {
        // At 1,000 requests per second.
        let standby = &[(1, None), (1, Some(300)), (1, None)];
        check(Sharing::Ordered, standby, &[0, WHOLE, WHOLE], &[0, 3000, 7000]);
        let weak = &[(1, None), (1, Some(300))];
        // What nobody has room for is not poured over the one that would break.
        check(Sharing::Ordered, weak, &[0, WHOLE], &[7000, 3000]);
        let shared = &[(50, None), (30, Some(400)), (20, None)];
        check(Sharing::Weighted, shared, &[0, WHOLE, WHOLE], &[0, 4000, 6000]);
    }
}
