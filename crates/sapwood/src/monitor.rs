//! The numbers of `/metrics`: recorded everywhere by name, rendered here.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// How often recorded durations are summed up, so that they don't pile up where nobody looks.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// Starts recording for the whole process. To be called before any part makes its handles.
pub(crate) fn install() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // A second one in one process (a test) keeps the first.
    drop(metrics::set_global_recorder(recorder));
    describe();
    handle
}

/// Sums up until it is aborted.
pub(crate) async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_PERIOD);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

fn describe() {
    metrics::describe_counter!(
        "sapwood_panics_total",
        "Panics: each is a bug, and ended one connection at most"
    );
    metrics::gauge!("sapwood_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    metrics::describe_gauge!("sapwood_info", "The running version");
}
