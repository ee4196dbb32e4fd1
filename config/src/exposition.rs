//! Metrics as they are exposed, made out of counts that are kept elsewhere whenever somebody asks.

use std::collections::HashMap;

use prometheus::{
    core::Desc,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::{HISTOGRAM_BOUNDS_SECONDS, HistogramReading};

/// A metric's name, help, labels and type.
pub type Family = (&'static str, &'static str, &'static [&'static str], MetricType);

/// What a collector says of its families before it is asked. One with a name or label that is none
/// is left out: a test of whoever writes it finds that.
pub fn describe(families: &[Family]) -> Vec<Desc> {
    let describe = |(name, help, labels, _): &Family| {
        let labels = labels.iter().map(ToString::to_string).collect();
        Desc::new((*name).to_owned(), (*help).to_owned(), labels, HashMap::new())
    };
    families.iter().filter_map(|family| describe(family).ok()).collect()
}

pub fn family((name, help, _, kind): Family, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub fn counter(labels: &[(&str, &str)], count: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(count as f64);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

pub fn gauge(labels: &[(&str, &str)], level: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(level);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

pub fn histogram(labels: &[(&str, &str)], reading: &HistogramReading) -> Metric {
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(HISTOGRAM_BOUNDS_SECONDS.len());
    for (bound, count) in HISTOGRAM_BOUNDS_SECONDS.iter().zip(reading.buckets) {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(reading.count());
    histogram.set_sample_sum(reading.sum_seconds);
    histogram.set_bucket(buckets);
    let mut metric = labelled(labels);
    metric.set_histogram(histogram);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let label = |(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    };
    Metric::from_label(labels.iter().map(label).collect())
}
