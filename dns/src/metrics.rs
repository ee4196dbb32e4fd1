//! Metrics, rendered when they are asked for out of the counters of the sockets.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus::{
    core::{Collector, Desc},
    proto::{Metric, MetricFamily, MetricType},
};
use weir_config::{
    Snapshots,
    exposition::{Family, counter, describe, family, gauge},
};

use crate::{
    counters::{Counters, Reading},
    request::Rcode,
    tcp::Connections,
    transfer::TransferCounters,
};

/// The DNS server's metrics.
#[derive(Clone, Debug)]
pub struct DnsMetrics {
    snapshots: Snapshots,
    udp: Arc<[Arc<Counters>]>,
    tcp: Arc<Counters>,
    connections: Arc<Connections>,
    transfers: Arc<TransferCounters>,
    descriptions: Vec<Desc>,
}

const RESPONSES: Family = (
    "weir_dns_responses_total",
    "Answers that were sent, by transport and response code.",
    &["transport", "code"],
    MetricType::COUNTER,
);
const IGNORED: Family = (
    "weir_dns_ignored_total",
    "Messages that are no question, by transport.",
    &["transport"],
    MetricType::COUNTER,
);
const LIMITED: Family = (
    "weir_dns_rate_limited_total",
    "Answers over UDP beyond the rate: dropped, or replaced by a hint to come by TCP (slipped).",
    &["outcome"],
    MetricType::COUNTER,
);
const CONNECTIONS: Family =
    ("weir_dns_connections_open", "Connections of clients over TCP.", &[], MetricType::GAUGE);
const ACCEPTED: Family = (
    "weir_dns_connections_accepted_total",
    "Connections that clients made, refused ones included.",
    &[],
    MetricType::COUNTER,
);
const REFUSED: Family = (
    "weir_dns_connections_refused_total",
    "Connections that were closed at once because there were too many.",
    &[],
    MetricType::COUNTER,
);
const TRANSFERS: Family = (
    "weir_dns_transfers_total",
    "Zones that secondaries asked for as a whole: sent, or denied.",
    &["outcome"],
    MetricType::COUNTER,
);
const NOTIFICATIONS: Family = (
    "weir_dns_notifications_total",
    "Changes of a zone that a secondary was told of: heard, or silent when it did not answer.",
    &["outcome"],
    MetricType::COUNTER,
);
const ZONES: Family = ("weir_dns_zones", "Zones served.", &[], MetricType::GAUGE);

const FAMILIES: [Family; 9] =
    [RESPONSES, IGNORED, LIMITED, CONNECTIONS, ACCEPTED, REFUSED, TRANSFERS, NOTIFICATIONS, ZONES];

impl DnsMetrics {
    pub(crate) fn new(
        snapshots: Snapshots,
        udp: Vec<Arc<Counters>>,
        tcp: Arc<Counters>,
        connections: Arc<Connections>,
        transfers: Arc<TransferCounters>,
    ) -> Self {
        let descriptions = describe(&FAMILIES);
        Self { snapshots, udp: udp.into(), tcp, connections, transfers, descriptions }
    }
}

impl Collector for DnsMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let udp = self.udp.iter().map(|counters| counters.read());
        let udp = udp.fold(Reading::default(), |sum, reading| sum + reading);
        let transports = [("udp", udp), ("tcp", self.tcp.read())];
        let ignored = |(transport, reading): (_, Reading)| {
            counter(&[("transport", transport)], reading.ignored)
        };
        let (transfers, read) = (&self.transfers, |counter: &AtomicU64| counter.load(Relaxed));
        let zones = self.snapshots.current().zones().len() as f64;
        vec![
            family(RESPONSES, transports.iter().flat_map(responses).collect()),
            family(IGNORED, transports.map(ignored).into()),
            family(LIMITED, outcomes([("dropped", udp.dropped), ("slipped", udp.slipped)])),
            family(CONNECTIONS, vec![gauge(&[], self.connections.open() as f64)]),
            family(ACCEPTED, vec![counter(&[], self.connections.accepted())]),
            family(REFUSED, vec![counter(&[], self.connections.refused())]),
            family(
                TRANSFERS,
                outcomes([("sent", read(&transfers.sent)), ("denied", read(&transfers.denied))]),
            ),
            family(
                NOTIFICATIONS,
                outcomes([("heard", read(&transfers.heard)), ("silent", read(&transfers.silent))]),
            ),
            family(ZONES, vec![gauge(&[], zones)]),
        ]
    }
}

/// Codes that were never given are left out.
fn responses((transport, reading): &(&str, Reading)) -> Vec<Metric> {
    let counts = Rcode::ALL.iter().zip(reading.answered).filter(|(_, count)| *count > 0);
    counts
        .map(|((_, code), count)| counter(&[("transport", *transport), ("code", *code)], count))
        .collect()
}

fn outcomes(counts: [(&str, u64); 2]) -> Vec<Metric> {
    counts.map(|(outcome, count)| counter(&[("outcome", outcome)], count)).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_dns_metric_is_documented_with_its_type_and_labels_and_no_other_is() {
        let text = include_str!("../../docs/observability.md");
        let (_, section) = text.split_once("\n## Metrics of the DNS server\n").unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let cells = |row: &str| row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let documented: BTreeSet<_> = rows
            .take_while(|row| row.starts_with('|'))
            .map(cells)
            .map(|row: Vec<_>| (row[1].clone(), row[2].clone(), row[3].clone()))
            .collect();
        let kind = |kind: MetricType| format!("{kind:?}").to_lowercase();
        let here: BTreeSet<_> = FAMILIES
            .into_iter()
            .map(|(name, _, labels, of)| (name.to_owned(), kind(of), labels.join(", ")))
            .collect();
        assert_eq!(here, documented);
        for (name, help, _, kind) in FAMILIES {
            assert_eq!(name.ends_with("_total"), kind == MetricType::COUNTER, "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
    }
}
