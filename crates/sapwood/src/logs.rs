//! The server's log: one line each on standard error, for humans on a terminal, else JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the whole process.
///
/// # Errors
/// A sentence that says what is wrong with `log.filter`.
pub(crate) fn start(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|error| {
        format!("expected a level such as info, or module=level pairs: {error}")
    })?;
    let human = match config.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = if human {
        lines
            .compact()
            .with_ansi(io::stderr().is_terminal())
            .try_init()
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
    // A second start in one process (a test) keeps the first.
    drop(started);
    Ok(())
}

/// A panic ends its connection and nothing else; it is counted and logged as the bug that it is.
pub(crate) fn count_panics() {
    let panics = metrics::counter!("sapwood_panics_total");
    std::panic::set_hook(Box::new(move |panic| {
        panics.increment(1);
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, message, backtrace = %std::backtrace::Backtrace::capture(), "panic: this is a bug");
    }));
}
