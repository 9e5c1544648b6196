//! The list of doors: adding a protocol is a folder of its own, and a line here.

use std::{net::SocketAddr, sync::Arc};

use metrics_exporter_prometheus::PrometheusHandle;
use sapwood_core::Core;
use sapwood_http::{Folder, HttpDoor, Options};
use sapwood_net::{Door, http::origin::Policy};

use crate::{
    Failure,
    config::{Config, Loaded},
};

/// All doors that are switched on.
pub(crate) fn all(
    loaded: &Loaded,
    listen: SocketAddr,
    core: &Core,
    folder: Arc<Folder>,
    metrics: PrometheusHandle,
) -> Result<Vec<Arc<dyn Door>>, Failure> {
    Ok(vec![Arc::new(http(loaded, listen, core, folder, metrics)?)])
}

/// How many connections they may have together.
pub(crate) fn limits(config: &Config) -> sapwood_net::Limits {
    config.http.listener_limits()
}

fn http(
    loaded: &Loaded,
    listen: SocketAddr,
    core: &Core,
    folder: Arc<Folder>,
    metrics: PrometheusHandle,
) -> Result<HttpDoor, Failure> {
    let options = Options {
        address: listen,
        // What is open trusts whoever reaches it on loopback, and so must not be reached from pages elsewhere.
        policy: if listen.ip().is_loopback() {
            Policy::Loopback
        } else {
            Policy::Any
        },
        folder: Some(folder),
        metrics: Box::new(move || metrics.render()),
    };
    HttpDoor::new(core.clone(), loaded.config.http.clone(), options)
        .map_err(|error| Failure::Data(Box::new(error)))
}
