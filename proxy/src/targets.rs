//! Which target of a failover policy a request goes to, and the loops that this may close.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use weir_config::{
    AppRoute, Choice, Endpoint, EndpointId, MAX_TARGETS, Moment, Steered, SteeredTarget,
};

use crate::{asked::Asked, pick::has_room};

/// Those who have passed a request on (RFC 8586).
pub(crate) const CDN_LOOP: &str = "cdn-loop";

/// The target of the client's bucket; after a failure the next one in the order of preference. One
/// whose endpoints are ejected is passed over for as long as another has one that is not: so a
/// target that has just died costs a few requests a second attempt, and not all of them until the
/// shares have moved.
pub(crate) fn pick<'a>(
    route: &AppRoute,
    steered: &'a Steered,
    asked: &Asked<'_>,
    failed: &[EndpointId],
    now: Moment,
) -> Option<&'a Endpoint> {
    // A client without an address is always the same one.
    let client = asked.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let own = steered.buckets.target(client)?;
    let mut places = [0; MAX_TARGETS];
    let (open, all) = order(steered, own, failed, &mut places);
    let choice = Choice { key: None, random: rand::random(), now };
    let find = |places: &[usize], takes: &dyn Fn(&Endpoint) -> bool| {
        let mut targets = places.iter().filter_map(|place| steered.targets.get(*place));
        targets.find_map(|target| target.pool.pick(choice, takes))
    };
    let has_room = |endpoint: &Endpoint| has_room(route, endpoint);
    let is_untried = |endpoint: &Endpoint| !failed.contains(&endpoint.id) && has_room(endpoint);
    find(open, &|endpoint| is_untried(endpoint) && !endpoint.is_ejected(now))
        .or_else(|| find(open, &is_untried))
        .or_else(|| find(all, &is_untried))
        .or_else(|| find(all, &has_room))
}

/// The places of the targets: those that failed this request least come first, and among these the
/// client's own. Those that are out are at the end, and not among the first ones that are returned.
fn order<'p>(
    steered: &Steered,
    own: usize,
    failed: &[EndpointId],
    places: &'p mut [usize; MAX_TARGETS],
) -> (&'p [usize], &'p [usize]) {
    let all = &mut places[..steered.targets.len().min(MAX_TARGETS)];
    all.iter_mut().enumerate().for_each(|(place, at)| *at = place);
    all.sort_unstable_by_key(|place| {
        let is_own = |id: &&EndpointId| id.target() == Some(&steered.targets[*place].name);
        (is_out(steered, *place), failed.iter().filter(is_own).count(), *place != own, *place)
    });
    let open = all.iter().take_while(|place| !is_out(steered, **place)).count();
    (&all[..open], all)
}

/// Whether a target is known to be down, and nobody is sent there.
fn is_out(steered: &Steered, place: usize) -> bool {
    let is_down = steered.targets.get(place).is_none_or(|target| target.is_down);
    is_down && steered.steering.shares.of(place) == 0
}

/// Whether a request may be sent to another target than that of this endpoint, in place of one that
/// does not answer in time.
pub(crate) fn has_another(steered: &Steered, endpoint: &EndpointId, failed: &[EndpointId]) -> bool {
    let is_other = |(place, target): (usize, &SteeredTarget)| {
        let is_own = |id: &EndpointId| id.target() == Some(&target.name);
        !is_out(steered, place) && !is_own(endpoint) && !failed.iter().any(is_own)
    };
    steered.targets.iter().enumerate().any(is_other)
}

/// Whether a request has passed here before, as one of these names (RFC 8586 section 2).
pub(crate) fn has_passed(headers: &HeaderMap, own: &str) -> bool {
    headers.get_all(CDN_LOOP).iter().any(|line| {
        line.as_bytes().split(|byte| *byte == b',').any(|passed| {
            let name = passed.split(|byte| *byte == b';').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(own.as_bytes())
        })
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_loop_is_seen_wherever_our_name_stands() {
        for (lines, expected) in [
            (&[][..], false),
            (&["weir-1a2b"], true),
            (&["cdn.example; a=\"weir-1a2b\", other"], false),
            (&["cdn.example, Weir-1A2B;v=1"], true),
            (&["cdn.example", " weir-1a2b "], true),
            (&["weir-1a2bc, xweir-1a2b"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CDN_LOOP, HeaderValue::from_static(line));
            }
            assert_eq!(has_passed(&headers, "weir-1a2b"), expected, "{lines:?}");
        }
    }
}
