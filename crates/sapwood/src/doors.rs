//! The list of doors: adding a protocol is a folder of its own, and a line here.

use std::{net::SocketAddr, sync::Arc};

use metrics_exporter_prometheus::PrometheusHandle;
use sapwood_core::Core;
use sapwood_net::Door;

use crate::{
    config::{Config, Loaded},
    run::Mode,
};

/// All doors that are switched on.
pub(crate) fn all(
    mode: Mode,
    loaded: &Loaded,
    listen: SocketAddr,
    core: &Core,
    metrics: PrometheusHandle,
) -> Vec<Arc<dyn Door>> {
    todo!()
}

/// How many connections they may have together.
pub(crate) fn limits(config: &Config) -> sapwood_net::Limits {
    sapwood_net::Limits::default()
}
