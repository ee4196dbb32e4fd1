//! What is measured of certificates, counted when it is asked for.

use std::sync::Arc;

use prometheus::{
    IntCounterVec, IntGauge, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::sync::watch;

use super::Kept;
use crate::{reconciler::World, time::unix_millis};

/// Reads the world.
#[derive(Clone, Debug)]
pub(crate) struct CertificateMetrics {
    world: watch::Receiver<Arc<World>>,
    count: IntGaugeVec,
    first_end: IntGauge,
    pub(crate) orders: IntCounterVec,
}

impl CertificateMetrics {
    pub(crate) fn new(world: watch::Receiver<Arc<World>>) -> Result<Self, prometheus::Error> {
        let count = Opts::new("weir_certificates", "Certificates by their state.");
        let first_end = Opts::new(
            "weir_certificate_first_end_timestamp_seconds",
            "When the first of those ends that are shown and wanted.",
        );
        let orders = Opts::new("weir_certificate_orders_total", "Orders by what came of them.");
        Ok(Self {
            world,
            count: IntGaugeVec::new(count, &["state"])?,
            first_end: IntGauge::with_opts(first_end)?,
            orders: IntCounterVec::new(orders, &["outcome"])?,
        })
    }
}

impl Collector for CertificateMetrics {
    fn desc(&self) -> Vec<&Desc> {
        [self.count.desc(), self.first_end.desc(), self.orders.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let world = self.world.borrow().clone();
        let (seen, now) = (&world.observed.certificates, unix_millis() / 1000);
        for state in Kept::STATES {
            let count = seen.kept.values().filter(|kept| kept.state(now) == state).count();
            self.count.with_label_values(&[state]).set(count as i64);
        }
        let ends = seen.served.iter().map(|certificate| certificate.valid.1);
        self.first_end.set(ends.min().unwrap_or_default());
        [self.count.collect(), self.first_end.collect(), self.orders.collect()].concat()
    }
}
