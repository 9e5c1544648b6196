//! The table that a run prints.

use std::time::Duration;

use crate::closed_loop::Measured;

/// Begins the table.
pub fn heading() {
    println!("| what | operations/s | server CPU/op | generator busy | half / 99 of 100 below |");
    println!("|---|---|---|---|---|");
}

/// The median of the rounds, by CPU time per operation.
///
/// # Panics
/// There are no rounds.
pub fn median(mut rounds: Vec<Measured>) -> Measured {
    rounds.sort_by_key(cpu_per_operation);
    let middle = rounds.len() / 2;
    rounds.swap_remove(middle)
}

/// One server's line.
pub fn line(what: &str, measured: &Measured) {
    let latency = measured.latency.map_or_else(String::new, |(half, most)| {
        format!("{} / {}", time(half), time(most))
    });
    let busy = 100.0 * measured.generator_cpu.as_secs_f64() / measured.window.as_secs_f64();
    println!(
        "| {what} | {:.0} | {} | {busy:.0} % | {latency} |",
        rate(measured),
        time(cpu_per_operation(measured)),
    );
}

/// Ours by theirs: the rate, and the CPU time per operation.
pub fn ratio(ours: &Measured, theirs: &Measured) {
    println!(
        "| → ratio | {:.2} | {:.2} | | |",
        rate(ours) / rate(theirs),
        cpu_per_operation(ours).as_secs_f64() / cpu_per_operation(theirs).as_secs_f64()
    );
}

/// Any other figure.
pub fn figure(what: &str, value: &str) {
    println!("| {what} | {value} | | | |");
}

/// Operations in a second.
#[expect(clippy::cast_precision_loss, reason = "a rate to three digits")]
pub fn rate(measured: &Measured) -> f64 {
    measured.operations as f64 / measured.window.as_secs_f64()
}

fn cpu_per_operation(measured: &Measured) -> Duration {
    measured
        .server_cpu
        .div_f64((measured.operations.max(1)) as f64)
}

/// A duration to three digits.
pub fn time(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        ..10.0 => format!("{micros:.2} µs"),
        ..1000.0 => format!("{micros:.0} µs"),
        _ => format!("{:.2} ms", micros / 1000.0),
    }
}
