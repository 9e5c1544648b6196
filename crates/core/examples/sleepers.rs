//! What a publish costs while nobody is there but durable sessions that sleep: one, and many of them.
//!
//! `cargo run --release -p sapwood-core --example sleepers -- [sessions] [messages]`

#![allow(clippy::print_stdout, reason = "a measuring tool")]

use std::time::{Duration, Instant};

use sapwood_core::{
    Begin, Claims, Connect, Core, CoreSettings, Database, DurableChange, Message, Session,
};
use sapwood_tree::{Limits, Path, TopicFilter};
use sapwood_value::Value;

type Failure = Box<dyn std::error::Error>;

fn connect(database: &Database) -> Session {
    database.connect(Connect {
        protocol: "example",
        peer: None,
        claims: Claims::anonymous(),
    })
}

/// Waits for as many answers.
async fn answers(session: &mut Session, count: usize) {
    let mut told = Vec::new();
    while told.len() < count {
        session.next(&mut told).await;
    }
}

async fn sleep(database: &Database, name: &str, filter: &str) -> Result<(), Failure> {
    let filter = TopicFilter::parse(filter, &Limits::default())?;
    let mut session = connect(database);
    session.submit_begin(1, name, 3600, Begin::Anew { instead_of: None });
    let expires_ms = u64::MAX;
    session.submit_changes(
        2,
        vec![
            DurableChange::Subscribe { filter },
            DurableChange::Away { expires_ms },
        ],
    );
    answers(&mut session, 2).await;
    Ok(())
}

/// The time of one message, of which each waits for its answer.
async fn publish(database: &Database, topic: &str, messages: u32) -> Result<Duration, Failure> {
    let path = Path::parse(topic, &Limits::default())?;
    let mut session = connect(database);
    let begin = Instant::now();
    for number in 0..messages {
        let mut message = Message::new(Value::Int(number.into()));
        message.qos = 1;
        session.submit_publish(3, path.clone(), message);
        answers(&mut session, 1).await;
    }
    Ok(begin.elapsed() / messages)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: u32| {
        let argument = arguments.next();
        argument.map_or(Ok(default), |text| text.parse())
    };
    let (sessions, messages) = (next(100_000)?, next(1_000)?);
    let folder = tempfile::tempdir()?;
    let core = Core::open(CoreSettings::folder(folder.path().to_owned()))?;
    let database = core.database("default").ok_or("no database")?;
    sleep(&database, "one", "one").await?;
    let one = publish(&database, "/one", messages).await?;
    let begin = Instant::now();
    for first in (0..sessions).step_by(100) {
        let batch = (first..sessions.min(first + 100)).map(|n| {
            let database = database.clone();
            async move {
                sleep(&database, &format!("{n}"), "many")
                    .await
                    .map_err(|error| error.to_string())
            }
        });
        let tasks: Vec<_> = batch.map(tokio::spawn).collect();
        for task in tasks {
            task.await??;
        }
    }
    println!("{sessions} sessions begun in {:?}", begin.elapsed());
    let many = publish(&database, "/many", messages).await?;
    println!("a message to one sleeper: {one:?}; to {sessions}: {many:?}");
    drop(database);
    tokio::task::spawn_blocking(move || core.close()).await?;
    let begin = Instant::now();
    let core = Core::open(CoreSettings::folder(folder.path().to_owned()))?;
    println!("opened again in {:?}", begin.elapsed());
    core.close();
    Ok(())
}
