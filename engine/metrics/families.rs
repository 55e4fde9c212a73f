//! Families of metrics in the making, and their text.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::shard::{BUCKETS, Buckets};

/// Families in the order they were begun.
#[derive(Debug, Default)]
pub(super) struct Families(Vec<MetricFamily>);

/// One family: a name with a value for each set of labels.
pub(super) struct Family<'a>(&'a mut MetricFamily);

/// Names of labels with their values.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Families {
    /// Begins a family of values that only grow, with a name that ends in `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.begin(name, help, MetricType::COUNTER)
    }

    /// Begins a family of values that go up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.begin(name, help, MetricType::GAUGE)
    }

    /// Begins a family of histograms of times.
    pub(super) fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.begin(name, help, MetricType::HISTOGRAM)
    }

    fn begin(&mut self, name: &str, help: &str, kind: MetricType) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.0.push(family);
        // It was pushed just now.
        Family(self.0.last_mut().expect("there is one"))
    }

    /// The text. Families without a value are left out, as the format wants it.
    pub(super) fn encode(mut self) -> String {
        self.0.retain(|family| !family.get_metric().is_empty());
        // It fails for families without a name or a value only.
        TextEncoder::new()
            .encode_to_string(&self.0)
            .unwrap_or_default()
    }
}

impl Family<'_> {
    /// Adds the value for `labels`.
    pub(super) fn set(&mut self, labels: Labels<'_>, value: f64) {
        let mut metric = metric(labels);
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    /// Adds the histogram for `labels`, in seconds.
    pub(super) fn set_buckets(&mut self, labels: Labels<'_>, buckets: &Buckets) {
        let mut cumulative = 0;
        let counts = buckets.counts();
        let mut bounded = Vec::with_capacity(BUCKETS);
        for (index, count) in counts.into_iter().enumerate() {
            cumulative += count;
            // The last one has no bound: it is in the count of all.
            let Some(bound) = Buckets::bound(index) else {
                continue;
            };
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(cumulative);
            bounded.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(bounded);
        histogram.set_sample_count(cumulative);
        histogram.set_sample_sum(buckets.sum().as_secs_f64());
        let mut metric = metric(labels);
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }
}

fn metric(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    Metric::from_label(labels.into_iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_of_each_type() {
        let mut families = Families::default();
        families.counter("a_total", "A \"thing\".").set(
            vec![("port", "left"), ("name", "q\"0")],
            9_007_199_254_740_991.0,
        );
        families.gauge("b", "Up and down.").set(vec![], 0.5);
        families.gauge("empty", "Nobody has it.");
        assert_eq!(
            families.encode(),
            "# HELP a_total A \"thing\".\n# TYPE a_total counter\n\
             a_total{port=\"left\",name=\"q\\\"0\"} 9007199254740991\n\
             # HELP b Up and down.\n# TYPE b gauge\nb 0.5\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_seconds() {
        let buckets = Buckets::default();
        buckets.record(Duration::from_micros(3));
        buckets.record(Duration::from_micros(4));
        buckets.record(Duration::from_secs(60));
        let mut families = Families::default();
        families
            .histogram("h_seconds", "Times.")
            .set_buckets(vec![("shard", "s")], &buckets);
        let text = families.encode();
        for line in [
            "h_seconds_bucket{shard=\"s\",le=\"0.000002\"} 0",
            "h_seconds_bucket{shard=\"s\",le=\"0.000004\"} 2",
            "h_seconds_bucket{shard=\"s\",le=\"16.777216\"} 2",
            "h_seconds_bucket{shard=\"s\",le=\"+Inf\"} 3",
            "h_seconds_sum{shard=\"s\"} 60.000007",
            "h_seconds_count{shard=\"s\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }
}
