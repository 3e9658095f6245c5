//! What Prometheus clients tell of their own process, read at each scrape
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use time::OffsetDateTime;

/// Reads `/proc/self`; what cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    started_at: OffsetDateTime,
}

impl ProcessCollector {
    pub(super) fn new(started_at: OffsetDateTime) -> Self {
        Self { started_at }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = [
            (
                "process_start_time_seconds",
                "Unix time of the start",
                Some(self.started_at.unix_timestamp()),
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory",
                resident_memory_bytes(),
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                open_file_descriptors(),
            ),
        ];
        for (name, help, value) in figures {
            let Some(value) = value else { continue };
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

fn resident_memory_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn open_file_descriptors() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}
