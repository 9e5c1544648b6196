//! From a configuration to a running server, and to its orderly end.

use std::{io::Write, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use sapwood_core::{Core, CoreSettings, DatabaseSettings, Gate, SystemClock};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tracing::{info, warn};

use crate::{
    Failure, banner,
    config::{Durability, Loaded},
    doors::{self, Doors},
    listen::{Addresses, Listen},
    logs, monitor, public,
};

/// How long clients may take to go when the server ends. With what is left to flush, it ends within ten seconds.
const DRAIN_PATIENCE: Duration = Duration::from_secs(7);

/// Which command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Open to this machine.
    Dev,
    /// For others, too.
    Serve {
        /// Whether somebody said by name that it is open to all.
        open: bool,
    },
}

/// Runs the server until it is told to end.
///
/// # Errors
/// [`Failure`], with a text that says what to do.
pub fn run(mode: Mode, loaded: &Loaded) -> Result<(), Failure> {
    let listen = Listen::of(mode, loaded)?;
    logs::start(&loaded.config.log)
        .map_err(|message| loaded.refuse(&["log", "filter"], message))?;
    let metrics = monitor::install();
    logs::count_panics();
    for notice in &loaded.notices {
        warn!("{notice}");
    }
    let core = Core::open(core_settings(loaded)).map_err(|error| Failure::Data(Box::new(error)))?;
    let runtime = runtime()?;
    let served = runtime.block_on(serve(mode, loaded, listen, &core, metrics));
    runtime.shutdown_timeout(Duration::from_secs(1));
    core.close();
    if served.is_ok() {
        info!("ended; everything that was answered is kept");
    }
    served
}

fn core_settings(loaded: &Loaded) -> CoreSettings {
    let config = &loaded.config;
    let databases = config
        .databases
        .iter()
        .map(|(name, database)| DatabaseSettings {
            name: name.clone(),
            declared: database.resources.keys().cloned().collect(),
        });
    let in_memory = config.store.durability == Durability::Memory;
    CoreSettings {
        data: (!in_memory).then(|| config.store.data.clone()),
        durability: config.store.durability.into(),
        databases: databases.collect(),
        limits: config.limits,
        log: config.store.log(),
        rows: config.store.rows(),
        split_bytes: config.store.split_bytes,
        clock: Arc::new(SystemClock::default()),
        gate: Gate::Open,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // Blocking threads carry large reads; each holds a view while it runs, so they are few.
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_name("sapwood")
        .build()
        .map_err(|source| Failure::System {
            what: "can't start threads",
            source,
        })
}

async fn serve(
    mode: Mode,
    loaded: &Loaded,
    listen: Listen,
    core: &Core,
    metrics: PrometheusHandle,
) -> Result<(), Failure> {
    let end = End::listen()?;
    let folder = public::open(loaded)?;
    let Doors {
        bound,
        mqtt,
        bridges,
    } = doors::open(loaded, &listen, core, Arc::clone(&folder), metrics.clone())?;
    greet(mode, &Addresses::of(&bound, listen.http), loaded);
    let mut background = JoinSet::new();
    background.spawn(monitor::upkeep(metrics));
    if let Some(mqtt) = mqtt {
        background.spawn(mqtt.report());
    }
    background.spawn(public::follow(folder, core.clone()));
    let (ending, ends) = watch::channel(false);
    let mut bridging = JoinSet::new();
    for bridge in bridges {
        bridging.spawn(bridge.run(ends.clone()));
    }
    let told = async {
        end.told().await;
        ending.send_replace(true);
    };
    let drained = bound.run(told, DRAIN_PATIENCE).await;
    // They began to take their leave with all others, and bound the time that it takes.
    while bridging.join_next().await.is_some() {}
    background.shutdown().await;
    if drained.left > 0 {
        warn!(
            connections = drained.left,
            "cut off: they had not ended in time"
        );
    }
    Ok(())
}

fn greet(mode: Mode, at: &Addresses, loaded: &Loaded) {
    let text = match mode {
        Mode::Dev => banner::dev(at, &loaded.config),
        Mode::Serve { .. } => banner::serve(at, &loaded.config),
    };
    let mut out = std::io::stdout();
    // Whoever started us may not read what we print.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    let version = env!("CARGO_PKG_VERSION");
    let durability = format!("{:?}", loaded.config.store.durability).to_lowercase();
    let mqtt = at.mqtt.map(tracing::field::display);
    let socket = at.socket.as_ref().map(|path| path.display());
    let socket = socket.map(tracing::field::display);
    info!(address = %at.http, mqtt, socket, version, durability, "serving");
    if let Mode::Serve { .. } = mode {
        warn!("open: there are no rules, and everybody reads and writes everything");
    }
}

/// The signals that end the server.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    /// Takes the signals over; from here on they end nothing by themselves.
    fn listen() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind).map_err(|source| Failure::System {
                what: "can't listen for signals",
                source,
            })
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    async fn told(mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        info!(
            signal = name,
            "ending: clients are told, and what they wrote is flushed"
        );
    }
}
