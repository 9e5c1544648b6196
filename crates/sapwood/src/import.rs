//! `sapwood import`: takes over what another broker has retained.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use sapwood_mqtt::{
    codec::Text,
    import::{Import, Imported, Party, Progress, import},
};

use crate::{Failure, cli};

/// How often it is told how far it has come, where nobody looks at it as it goes.
const TOLD_INTERVAL: Duration = Duration::from_secs(10);

/// Takes it over, and tells how far it has come on standard error.
///
/// # Errors
/// [`Failure::Import`] unless all that came was acknowledged.
pub fn run(options: &cli::Import) -> Result<(), Failure> {
    let wanted = wanted(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System {
            what: "can't start threads",
            source,
        })?;
    let begun = Instant::now();
    let mut told = Told::new(begun);
    let imported = runtime
        .block_on(import(wanted, |progress| told.tell(progress)))
        .map_err(|error| Failure::Import(error.to_string()));
    told.end();
    let imported = imported?;
    // It has waited so long only to see that nothing more comes.
    let took = begun
        .elapsed()
        .saturating_sub(Duration::from_secs(options.quiet));
    say(&last_line(options, &imported.progress, took));
    refused(&imported)
}

fn wanted(options: &cli::Import) -> Result<Import, Failure> {
    let text = |what: &str, text: &str| {
        Text::new(text)
            .map_err(|error| Failure::Usage(format!("{what}: {error} is not possible in MQTT")))
    };
    if options.prefix.contains(['+', '#']) {
        return Err(Failure::Usage("--prefix: expected no + or #".to_owned()));
    }
    let mut filters = Vec::new();
    for filter in &options.filter {
        if filter.is_empty() {
            return Err(Failure::Usage(
                "--filter: expected a filter such as home/#".to_owned(),
            ));
        }
        filters.push(text("--filter", filter)?);
    }
    let party = |address: &sapwood_mqtt::Address, name: &Option<String>, file: &Option<_>| {
        Ok::<_, Failure>(Party {
            address: address.clone(),
            user_name: name
                .as_ref()
                .map(|name| text("user name", name))
                .transpose()?,
            password: file.as_deref().map(password).transpose()?,
        })
    };
    Ok(Import {
        from: party(&options.from, &options.username, &options.password_file)?,
        to: party(&options.to, &options.to_username, &options.to_password_file)?,
        filters,
        prefix: options.prefix.clone(),
        quiet: Duration::from_secs(options.quiet),
    })
}

/// What a file says, without the end of its line.
fn password(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = std::fs::read(path).map_err(|error| {
        Failure::Usage(format!(
            "can't read the password from {}: {error}",
            path.display()
        ))
    })?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}

fn last_line(options: &cli::Import, progress: &Progress, took: Duration) -> String {
    let Progress {
        acknowledged,
        refused,
        bytes,
        ..
    } = progress;
    let seconds = took.as_secs_f64().max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = *acknowledged as f64 / seconds;
    format!(
        "{acknowledged} retained messages ({bytes} bytes) taken over from {} to {} in {seconds:.1} s, {rate:.0}/s; {refused} refused",
        options.from, options.to
    )
}

fn refused(imported: &Imported) -> Result<(), Failure> {
    if imported.progress.refused == 0 {
        return Ok(());
    }
    let mut text = format!("{} messages were not taken", imported.progress.refused);
    for (topic, why) in &imported.refused {
        text += &format!("\n  {topic:?}: {why}");
    }
    Err(Failure::Import(text))
}

/// A line on standard error; nothing can be done where that is closed.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// How far it has come: a line that changes on a terminal, and one now and then elsewhere.
struct Told {
    is_terminal: bool,
    last: Instant,
    before: Progress,
    is_open: bool,
}

impl Told {
    fn new(now: Instant) -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            last: now,
            before: Progress::default(),
            is_open: false,
        }
    }

    fn tell(&mut self, progress: Progress) {
        let since = self.last.elapsed();
        let is_due = self.is_terminal || since >= TOLD_INTERVAL;
        if !is_due || since < Duration::from_millis(500) || progress == self.before {
            return;
        }
        let new = progress.acknowledged - self.before.acknowledged;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = new as f64 / since.as_secs_f64();
        let (acknowledged, received) = (progress.acknowledged, progress.received);
        let line = format!("{acknowledged} of {received} so far, {rate:.0}/s");
        if self.is_terminal {
            drop(write!(std::io::stderr(), "\r\x1b[K{line}"));
            self.is_open = true;
        } else {
            say(&line);
        }
        (self.last, self.before) = (Instant::now(), progress);
    }

    /// Ends the line that changes.
    fn end(&self) {
        if self.is_open {
            say("");
        }
    }
}
