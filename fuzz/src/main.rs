//! Feeds each parser mutated seeds for a while. See README.md.

mod mutate;
mod seeds;
mod targets;

use std::{
    alloc::System,
    cell::Cell,
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cap::Cap;

use crate::{mutate::Mutator, targets::Target};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// No input may take longer (reliability, section 4); measured three times, as the machine may be busy.
const TIME_MAX: Duration = Duration::from_millis(100);
/// After this long an input hangs.
const HANG: Duration = Duration::from_secs(20);
/// Memory beyond a constant may be so many times the input. A target holds several copies of what it reads: the value,
/// its encoding, the value again, and a second parser's.
const GROWTH: usize = 256;
const GROWTH_CONSTANT: usize = 1 << 20;
const INPUT_BYTES_MAX: usize = 64 << 10;

struct Options {
    seconds: u64,
    seed: u64,
    input: Option<PathBuf>,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let all = targets::all();
    let chosen: Vec<&Target> = all
        .iter()
        .filter(|target| {
            options.names.is_empty() || options.names.contains(&target.name.to_owned())
        })
        .collect();
    println!(
        "fuzz: {} targets, {} s each, --seed {}",
        chosen.len(),
        options.seconds,
        options.seed
    );
    panic::set_hook(Box::new(|_| {}));
    let failed = chosen
        .iter()
        .filter(|target| !run(target, &options))
        .count();
    println!(
        "fuzz: {} targets passed, {failed} failed",
        chosen.len() - failed
    );
    if failed == 0 && !chosen.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn options() -> Result<Options, String> {
    let started = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(1, |since| since.as_secs());
    let mut options = Options {
        seconds: 10,
        seed: started,
        input: None,
        names: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments
                .next()
                .ok_or(format!("{argument} needs a number"))?;
            text.parse()
                .map_err(|_| format!("{argument} needs a number, not {text}"))
        };
        match argument.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--input" => options.input = arguments.next().map(PathBuf::from),
            name if targets::all().iter().any(|target| target.name == name) => {
                options.names.push(argument)
            }
            _ => {
                let names: Vec<_> = targets::all().iter().map(|target| target.name).collect();
                return Err(format!(
                    "no target is named {argument}; there are: {}",
                    names.join(" ")
                ));
            }
        }
    }
    Ok(options)
}

/// Runs one target; whether it passed.
fn run(target: &Target, options: &Options) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("failures");
    fs::create_dir_all(&folder).expect("a folder for failures");
    let running = folder.join(format!("{}.running", target.name));
    let bench = Bench::new(target, &running);
    if let Some(input) = &options.input {
        let bytes = fs::read(input).expect("the input");
        return bench
            .verdict(&bytes)
            .is_ok_and(|()| fs::remove_file(&running).is_ok());
    }
    let seeds = seeds::of(target);
    let mut mutator = Mutator::new(options.seed ^ hash(target.name.as_bytes()), target.words);
    let (end, mut count) = (Instant::now() + Duration::from_secs(options.seconds), 0_u64);
    let mut failure = seeds.iter().find_map(|seed| bench.failure(seed));
    while failure.is_none() && Instant::now() < end {
        for _ in 0..64 {
            count += 1;
            let input = mutator.next(&seeds, INPUT_BYTES_MAX);
            failure = bench.failure(&input);
            if failure.is_some() {
                break;
            }
        }
    }
    drop(bench);
    let _ = fs::remove_file(&running);
    match failure {
        None => {
            println!(
                "fuzz {}: ok, {} seeds, {count} inputs",
                target.name,
                seeds.len()
            );
            true
        }
        Some((why, input)) => {
            let kept = folder.join(format!("{}-{:016x}", target.name, hash(&input)));
            fs::write(&kept, &input).expect("a file for the failure");
            println!(
                "fuzz {}: FAILED after {count} inputs: {why}; kept in {}",
                target.name,
                kept.display()
            );
            false
        }
    }
}

/// Runs inputs one after the other, each written down first: an abort leaves it behind.
struct Bench<'a> {
    target: &'a Target,
    running: File,
    /// How long it is.
    written: Cell<usize>,
    /// Milliseconds since the start at which the input now running began; 0 for none.
    began: Arc<AtomicU64>,
    start: Instant,
}

impl<'a> Bench<'a> {
    fn new(target: &'a Target, running: &Path) -> Self {
        let file = File::create(running).expect("a file for the running input");
        let bench = Self {
            target,
            running: file,
            written: Cell::new(0),
            began: Arc::new(AtomicU64::new(0)),
            start: Instant::now(),
        };
        bench.watch(running.to_owned());
        bench
    }

    /// Ends the process where an input hangs: there is no other way to stop it.
    fn watch(&self, running: PathBuf) {
        let (began, start, name) = (Arc::downgrade(&self.began), self.start, self.target.name);
        std::thread::spawn(move || {
            while let Some(began) = began.upgrade() {
                let now = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                let since = began.load(Ordering::Relaxed);
                if since != 0 && u128::from(now.saturating_sub(since)) > HANG.as_millis() {
                    println!("fuzz {name}: HANGS; the input is {}", running.display());
                    let _ = std::io::stdout().flush();
                    std::process::abort();
                }
                drop(began);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
    }

    fn failure(&self, input: &[u8]) -> Option<(String, Vec<u8>)> {
        self.verdict(input).err().map(|why| (why, input.to_owned()))
    }

    fn verdict(&self, input: &[u8]) -> Result<(), String> {
        self.running.write_all_at(input, 0).expect("written");
        if input.len() < self.written.replace(input.len()) {
            self.running.set_len(input.len() as u64).expect("shortened");
        }
        let mut taken = self.once(input)?;
        for _ in 0..2 {
            if taken > TIME_MAX {
                taken = taken.min(self.once(input)?);
            }
        }
        if taken > TIME_MAX {
            Err(format!("it took {taken:?}"))
        } else {
            Ok(())
        }
    }

    fn once(&self, input: &[u8]) -> Result<Duration, String> {
        let began = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began.store(began.max(1), Ordering::Relaxed);
        let limit = ALLOCATOR.allocated() + GROWTH_CONSTANT + GROWTH * input.len();
        // Past it an allocation fails and the process aborts; the input is in the file.
        ALLOCATOR
            .set_limit(limit)
            .expect("a limit above what is allocated");
        let at = Instant::now();
        let result = panic::catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let taken = at.elapsed();
        ALLOCATOR.set_limit(usize::MAX).expect("no limit");
        self.began.store(0, Ordering::Relaxed);
        match result {
            Ok(()) => Ok(taken),
            Err(panic) => Err(format!("it panicked: {}", message(panic.as_ref()))),
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// FNV-1a: stable from run to run, so that a failure keeps its name.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
