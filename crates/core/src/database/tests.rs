use bytes::Bytes;
use sapwood_store::log::{AppendError, CloseError, MemoryLog, RetainError, Retention};
use sapwood_tree::OpKind;
use sapwood_value::Value;

use super::*;
use crate::session::Delivery;
use crate::{ErrorKind, RowSettings, SystemClock};

/// A log on a disk that is full.
struct Full(MemoryLog);

impl CommitLog for Full {
    fn id(&self) -> LogId {
        self.0.id()
    }

    fn next(&self) -> CommitSeq {
        self.0.next()
    }

    fn append(&mut self, _: CommitSeq, _: &[Bytes]) -> Result<(), AppendError> {
        Err(AppendError::Full)
    }

    fn reader(&self) -> Box<dyn LogReader> {
        self.0.reader()
    }

    fn retain(&mut self, keep: Retention, floor: CommitSeq) -> Result<(), RetainError> {
        self.0.retain(keep, floor)
    }

    fn close(self: Box<Self>) -> Result<(), CloseError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_message_behind_a_write_that_the_log_refuses_is_refused_too() {
    let limits = Limits::default();
    let parts = Parts {
        name: "default".to_owned(),
        log: Box::new(Full(MemoryLog::new(1 << 20))),
        store: RowStore::memory(RowSettings::default()).unwrap(),
        gate: Gate::Open,
        tree: Settings::default(),
        limits,
        retention: LogSettings::default(),
        clock: Arc::new(SystemClock::default()),
        decoding: DecodeRoom::new(&limits),
    };
    let database = Database::start(parts).unwrap();
    let mut session = database.connect(Connect {
        protocol: "test",
        peer: None,
        claims: Claims::anonymous(),
    });
    let path = Path::parse("/a", &sapwood_tree::Limits::default()).unwrap();
    let mut answered = 0;
    let mut out = Vec::new();
    // Until a message has come into the group of a write.
    while answered < 200 {
        let (value, mark) = (Value::Int(1), false);
        session.submit(0, Write::of(path.clone(), OpKind::Put { value, mark }));
        session.submit_publish(1, path.clone(), Message::new(Value::Int(1)));
        for _ in 0..2 {
            while out.is_empty() {
                session.next(&mut out).await;
            }
            match out.remove(0) {
                Delivery::Answer { answer: Ok(_), tag } => assert_eq!(tag, 1),
                Delivery::Answer { answer, .. } => {
                    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Full);
                }
                Delivery::Event { .. } => {}
            }
            answered += 1;
        }
    }
    drop(session);
    database.stop();
}
