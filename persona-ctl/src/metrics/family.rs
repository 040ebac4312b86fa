//! One metric under several labels, and how it is written: counters are whole numbers, gauges are real ones.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Names and values of a sample's labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// One family: the same metric under several labels.
pub(super) struct Family<T> {
    pub name: &'static str,
    pub help: &'static str,
    pub unit: Option<Unit>,
    pub samples: Vec<(Labels, T)>,
}

impl Family<u64> {
    /// Writes it as counters.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_as(MetricType::Counter, encoder, |value, encoder| ConstCounter::new(value).encode(encoder))
    }
}

impl Family<f64> {
    /// Writes it as gauges.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_as(MetricType::Gauge, encoder, |value, encoder| ConstGauge::new(value).encode(encoder))
    }
}

impl<T: Copy> Family<T> {
    fn encode_as(
        &self,
        kind: MetricType,
        encoder: &mut DescriptorEncoder<'_>,
        write: impl Fn(T, MetricEncoder<'_>) -> Result<(), std::fmt::Error>,
    ) -> Result<(), std::fmt::Error> {
        // A family without samples is left out: an empty one tells nothing.
        let Some(first) = self.samples.first() else { return Ok(()) };
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        if first.0.is_empty() {
            return write(first.1, metric);
        }
        for (labels, value) in &self.samples {
            write(*value, metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}
