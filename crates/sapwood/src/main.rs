//! `sapwood`: the server.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use sapwood::{
    Failure,
    cli::{Cli, Command},
    config::Loaded,
    import,
    run::{self, Mode},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing can be done where standard error is closed.
            drop(writeln!(std::io::stderr(), "sapwood: {failure:#}"));
            failure.exit_code()
        }
    }
}

fn command(command: &Command) -> Result<(), Failure> {
    let (mode, options) = match command {
        Command::Config(options) => {
            let loaded = Loaded::load(&options.sources(std::env::vars_os()))?;
            for notice in &loaded.notices {
                drop(writeln!(std::io::stderr(), "sapwood: {notice}"));
            }
            let report = loaded.report();
            // A reader that has seen enough, such as `head`, is no failure.
            drop(std::io::stdout().write_all(report.as_bytes()));
            return Ok(());
        }
        Command::Import(options) => return import::run(options),
        Command::Dev(options) => (Mode::Dev, options),
        Command::Serve(serve) => (Mode::Serve { open: serve.open }, &serve.options),
    };
    run::run(mode, &Loaded::load(&options.sources(std::env::vars_os()))?)
}
