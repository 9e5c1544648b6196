//! The real binary as a child process.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::http::Client;

/// How long an orderly end may take (reliability S7), and a little, as the machine may be busy.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a line may take to be printed or logged.
const PRINT_TIMEOUT: Duration = Duration::from_secs(10);

/// Says how the server is to be started.
pub struct ServerBuilder {
    binary: PathBuf,
    command: &'static str,
    data: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl ServerBuilder {
    /// `sapwood dev` from this binary, on a free port, with a fresh data folder.
    pub fn dev(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            command: "dev",
            data: None,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The same with `sapwood serve --open`.
    pub fn serve_open(binary: impl Into<PathBuf>) -> Self {
        Self {
            command: "serve",
            ..Self::dev(binary)
        }
        .argument("--open")
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds `--set key=value`.
    #[must_use]
    pub fn set(self, setting: &str) -> Self {
        self.argument("--set").argument(setting)
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Uses this data folder, which outlives the server.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Starts the server and waits until its first line says where it listens.
    ///
    /// # Errors
    /// It didn't start; the error holds what it wrote.
    pub fn start(self) -> Result<Server> {
        let folder = tempfile::Builder::new().prefix("sapwood-test-").tempdir()?;
        let data = self
            .data
            .clone()
            .unwrap_or_else(|| folder.path().join("data"));
        let process = Process::start(&self, &data, folder.path())?;
        Ok(Server {
            builder: self,
            process,
            folder,
            data,
        })
    }

    fn command(&self, data: &Path, folder: &Path) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command
            .arg(self.command)
            .arg("--data")
            .arg(data)
            .args(["--http", "127.0.0.1:0"])
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(folder.join("log"))?,
            );
        Ok(command)
    }
}

/// A running server. Dropping it kills it and removes its folder.
pub struct Server {
    builder: ServerBuilder,
    process: Process,
    folder: TempDir,
    data: PathBuf,
}

impl Server {
    /// Where it serves HTTP.
    pub fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// It doesn't take one.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.address())
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("log"))?)
    }

    /// Waits until it has printed a line that contains this text, and gives the line.
    ///
    /// # Errors
    /// It ended without, or took longer than ten seconds.
    pub fn prints(&self, text: &str) -> Result<String> {
        self.process.printed.line_with(text)
    }

    /// Waits until it has logged a line that contains this text, and gives the line.
    ///
    /// # Errors
    /// It took longer than ten seconds.
    pub fn logs(&self, text: &str) -> Result<String> {
        let deadline = Instant::now() + PRINT_TIMEOUT;
        loop {
            if let Some(line) = self.log()?.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if Instant::now() > deadline {
                bail!("the server never logged {text:?}");
            }
            std::thread::yield_now();
        }
    }

    /// SIGKILL: the process is gone at once, whatever it was doing.
    ///
    /// # Errors
    /// The system refused.
    pub fn kill(&mut self) -> Result<()> {
        self.process.child.kill()?;
        self.process.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It had not ended within twenty seconds.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.process.wait(STOP_TIMEOUT)
    }

    /// Sends a signal by name.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()])
            .status()?;
        if !status.success() {
            bail!("could not send SIG{name}");
        }
        Ok(())
    }

    /// Starts it again on the same data folder, after it has ended. The port is another one.
    ///
    /// # Errors
    /// It didn't start.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = Process::start(&self.builder, &self.data, self.folder.path())?;
        Ok(())
    }
}

struct Process {
    child: Child,
    address: SocketAddr,
    printed: Arc<Printed>,
}

impl Process {
    fn start(builder: &ServerBuilder, data: &Path, folder: &Path) -> Result<Self> {
        let mut child = builder
            .command(data, folder)?
            .spawn()
            .with_context(|| format!("can't run {}", builder.binary.display()))?;
        let output = child.stdout.take().context("no standard output")?;
        let printed = Printed::from(output);
        match printed.line_with("").and_then(|line| address_in(&line)) {
            Ok(address) => Ok(Self {
                child,
                address,
                printed,
            }),
            Err(error) => {
                drop(child.kill());
                drop(child.wait());
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                Err(error.context(format!("the server didn't start; it wrote:\n{log}")))
            }
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the server was still there after {timeout:?}");
            }
            // The standard library has no wait with a deadline; nothing else wakes us.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a server has printed so far.
#[derive(Default)]
struct Printed {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Printed {
    /// Reads the output to its end, so that it keeps flowing.
    fn from(output: ChildStdout) -> Arc<Self> {
        let printed = Arc::new(Self::default());
        let reader = Arc::clone(&printed);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                reader.with(|lines| lines.lines.push(line));
            }
            reader.with(|lines| lines.ended = true);
        });
        printed
    }

    fn with(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        self.more.notify_all();
    }

    fn line_with(&self, text: &str) -> Result<String> {
        let find = |lines: &Lines| lines.lines.iter().find(|line| line.contains(text)).cloned();
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.more.wait_timeout_while(lines, PRINT_TIMEOUT, |lines| {
            !lines.ended && find(lines).is_none()
        });
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        find(&lines).with_context(|| format!("no line with {text:?} in {:?}", lines.lines))
    }
}

fn address_in(line: &str) -> Result<SocketAddr> {
    let url = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("http://"));
    let host = url
        .and_then(|url| url.split('/').next())
        .with_context(|| format!("no address in {line:?}"))?;
    host.parse()
        .with_context(|| format!("no address in {line:?}"))
}
