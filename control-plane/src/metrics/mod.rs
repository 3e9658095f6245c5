//! What the process counts, in the OpenMetrics text format.

mod process;

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use time::OffsetDateTime;

use self::process::ProcessCollector;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    grpc_requests: Family<GrpcRequest, Counter>,
    grpc_seconds: Family<GrpcMethod, Histogram>,
    write_copies: Gauge,
    lease_seconds: Gauge,
    positions_ahead: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrpcRequest {
    method: String,
    code: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrpcMethod {
    method: String,
}

impl Metrics {
    /// Starts at zero; `started_at` is when the process began.
    pub fn new(started_at: OffsetDateTime) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector::new(started_at)));

        let ours = registry.sub_registry_with_prefix("authguardian");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        ours.register("build", "What is running", Info::new(version));
        let grpc_requests = Family::default();
        ours.register(
            "grpc_requests",
            "gRPC calls that ended, by status code",
            grpc_requests.clone(),
        );
        let grpc_seconds = Family::new_with_constructor(latency as fn() -> Histogram);
        let help = "Time from the head of a gRPC call to the head of its response";
        ours.register_with_unit(
            "grpc_request_duration",
            help,
            Unit::Seconds,
            grpc_seconds.clone(),
        );

        let write_copies = Gauge::default();
        ours.register(
            "database_write_copies",
            "Database nodes that would flush a commit made now",
            write_copies.clone(),
        );
        let lease_seconds = Gauge::default();
        ours.register_with_unit(
            "database_leader_lease",
            "How long the database's leader leads at least; 0 where that is not known or not looked for",
            Unit::Seconds,
            lease_seconds.clone(),
        );

        let positions_ahead = Counter::default();
        ours.register(
            "events_positions_ahead",
            "Subscriptions refused since what they have seen is not in the database, which was put back without a fence",
            positions_ahead.clone(),
        );

        Self {
            registry: Arc::new(registry),
            grpc_requests,
            grpc_seconds,
            write_copies,
            lease_seconds,
            positions_ahead,
        }
    }

    /// Counts one gRPC call. `method` is the path of a method that exists, so
    /// that callers cannot make labels up; `code` is the gRPC status code.
    pub fn grpc_call(&self, method: &str, code: u32, took: Duration) {
        let method = method.to_owned();
        self.grpc_requests
            .get_or_create(&GrpcRequest {
                method: method.clone(),
                code,
            })
            .inc();
        self.grpc_seconds
            .get_or_create(&GrpcMethod { method })
            .observe(took.as_secs_f64());
    }

    /// How the database stands: see `db::Quorum`.
    pub fn database(&self, copies: u32, lease: Duration) {
        self.write_copies.set(i64::from(copies));
        let seconds = i64::try_from(lease.as_secs()).unwrap_or(i64::MAX);
        self.lease_seconds.set(seconds);
    }

    /// A subscriber has seen what the database does not have: see
    /// `events::is_ahead`.
    pub fn position_ahead(&self) {
        self.positions_ahead.inc();
    }

    /// All figures as they are now.
    ///
    /// # Errors
    /// Only when a metric cannot write itself.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// From a quarter of a millisecond to eight seconds.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let metrics = Metrics::new(OffsetDateTime::from_unix_timestamp(1_000).unwrap());
        metrics.grpc_call("a.B/C", 0, Duration::from_millis(3));
        metrics.grpc_call("a.B/C", 0, Duration::from_millis(3));
        metrics
            .clone()
            .grpc_call("a.B/C", 5, Duration::from_millis(3));
        let text = metrics.encode().unwrap();
        for line in [
            "authguardian_grpc_requests_total{method=\"a.B/C\",code=\"0\"} 2",
            "authguardian_grpc_requests_total{method=\"a.B/C\",code=\"5\"} 1",
            "authguardian_grpc_request_duration_seconds_count{method=\"a.B/C\"} 3",
            "process_start_time_seconds 1000",
        ] {
            assert!(text.contains(line), "`{line}` is not in:\n{text}");
        }
        assert!(text.contains("authguardian_build_info{version="), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
