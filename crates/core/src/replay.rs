//! A start: the rows are brought up to the log.

use std::path::Path as FsPath;

use sapwood_store::log::{CommitLog as _, CommitSeq, SegmentLog};
use sapwood_store::rows::{RowStore, View};
use sapwood_tree::{Declared, Settings};

use crate::codec::{self, UNLIMITED};
use crate::commit::{self, Commit};
use crate::core::OpenError;
use crate::lease::{DECLARED_KEY, Effect};

/// How much of the log is replayed at a time, in bytes.
const REPLAY_BYTES: usize = 4 << 20;

/// Applies the commits that the log has and the rows have not, as they were applied at first: with the resources that were
/// declared then, whatever the configuration says now, and without limits, as they were kept to when the writes were decided.
pub(crate) struct Replay<'a> {
    pub(crate) database: &'a str,
    /// The rows' folder.
    pub(crate) dir: &'a FsPath,
    /// How commits are made into rows.
    pub(crate) tree: Settings,
}

impl Replay<'_> {
    pub(crate) fn run(mut self, log: &SegmentLog, store: &RowStore) -> Result<(), OpenError> {
        let reader = log.reader();
        let (mut applied, first) = (store.applied(), reader.first().0);
        if applied + 1 < first {
            return Err(OpenError::Apart {
                database: self.database.to_owned(),
                dir: self.dir.to_owned(),
                applied,
                first,
            });
        }
        self.tree.limits = UNLIMITED;
        self.tree.declared = self.declared_before(&store.view())?;
        while applied < reader.last().0 {
            let entries = reader
                .read(CommitSeq(applied + 1), REPLAY_BYTES)
                .map_err(|error| self.failed(applied + 1, &error))?;
            let mut working = store.begin();
            for (seq, entry) in entries {
                let commit =
                    codec::decode(seq.0, &entry).map_err(|error| self.failed(seq.0, &error))?;
                let (changes, private, _) =
                    commit::apply(&self.tree, working.view(), &commit, true)
                        .map_err(|error| self.failed(seq.0, &error))?;
                working.apply(seq.0, &changes, &private);
                self.note_declared(&commit)?;
                applied = seq.0;
            }
            store.publish(working);
        }
        Ok(())
    }

    fn declared_before(&self, view: &View) -> Result<Declared, OpenError> {
        let known = view
            .private(DECLARED_KEY)
            .map_err(|error| self.failed(view.seq(), &error))?
            .unwrap_or_default();
        self.parse(view.seq(), std::str::from_utf8(&known).unwrap_or_default())
    }

    fn note_declared(&mut self, commit: &Commit) -> Result<(), OpenError> {
        for effect in &commit.effects {
            if let Effect::Declared { patterns } = effect {
                self.tree.declared = self.parse(commit.seq, patterns)?;
            }
        }
        Ok(())
    }

    fn parse(&self, seq: u64, patterns: &str) -> Result<Declared, OpenError> {
        Declared::parse(patterns.lines(), &UNLIMITED).map_err(|error| self.failed(seq, &error))
    }

    fn failed(&self, seq: u64, error: &dyn std::error::Error) -> OpenError {
        OpenError::Replay {
            database: self.database.to_owned(),
            seq,
            reason: error.to_string(),
        }
    }
}
