//! Any commits, with any reopening between them.

use std::path::Path as FsPath;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Commits that are published together, or forgotten.
    Batch {
        commits: Vec<Commit>,
        published: bool,
    },
    /// Keeps a view, to be looked at again at the end.
    Hold,
    Persist,
    /// Waits for the sweeper.
    Sweep,
    Reopen {
        clean: bool,
    },
}

#[derive(Clone, Debug)]
struct Commit {
    rows: BTreeMap<usize, Option<i64>>,
    cuts: Vec<usize>,
    private: Vec<(u8, Option<u8>)>,
}

/// All paths over three segments, to a depth of three.
fn paths() -> Vec<Path> {
    let mut paths = vec![Path::root()];
    let mut from = 0;
    for _ in 0..3 {
        let above = paths[from..].to_vec();
        from = paths.len();
        for path in above {
            for segment in ["7", "b", "é"] {
                paths.push(path.child_unchecked(segment));
            }
        }
    }
    paths.sort();
    paths
}

const PATHS: usize = 1 + 3 + 9 + 27;

fn commits() -> impl Strategy<Value = Commit> {
    let rows = prop::collection::btree_map(0..PATHS, prop::option::weighted(0.8, 0..100_i64), 0..6);
    let cuts = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(0..PATHS, 1..3)];
    let private = prop::collection::vec((0..6_u8, prop::option::of(any::<u8>())), 0..2);
    (rows, cuts, private).prop_map(|(rows, cuts, private)| Commit {
        rows,
        cuts,
        private,
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let batch = (
        prop::collection::vec(commits(), 1..4),
        prop::bool::weighted(0.9),
    );
    prop_oneof![
        20 => batch.prop_map(|(commits, published)| Step::Batch { commits, published }),
        3 => Just(Step::Hold),
        1 => Just(Step::Persist),
        1 => Just(Step::Sweep),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

impl Commit {
    fn changes(&self, seq: u64, paths: &[Path]) -> (RowChanges, Private) {
        let rows = self
            .rows
            .iter()
            .map(|(at, value)| (paths[*at].clone(), value.map(|value| row(seq, value))));
        let cuts = self.cuts.iter().map(|at| paths[*at].clone());
        let private = self.private.iter().map(|(key, value)| {
            (
                Bytes::copy_from_slice(&[*key]),
                value.map(|value| Bytes::copy_from_slice(&[value])),
            )
        });
        (
            RowChanges {
                rows: rows.collect(),
                cuts: cuts.collect(),
            },
            private.collect(),
        )
    }
}

/// A store beside its model, and the log from which both can be made again.
struct Run {
    dir: Option<tempfile::TempDir>,
    settings: RowSettings,
    store: Option<RowStore>,
    model: Model,
    log: Vec<(RowChanges, Private)>,
    held: Vec<(View, Model)>,
    paths: Vec<Path>,
}

impl Run {
    fn new(settings: RowSettings, on_disk: bool) -> Self {
        let dir = on_disk.then(|| tempfile::tempdir().unwrap());
        let store = match &dir {
            Some(dir) => RowStore::open(dir.path(), settings).unwrap(),
            None => RowStore::memory(settings).unwrap(),
        };
        let store = Some(store);
        Self {
            dir,
            settings,
            store,
            model: Model::default(),
            log: Vec::new(),
            held: Vec::new(),
            paths: paths(),
        }
    }

    fn store(&self) -> &RowStore {
        self.store.as_ref().unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Batch { commits, published } => self.batch(commits, *published),
            Step::Hold => self.held.push((self.store().view(), self.model.clone())),
            Step::Persist => {
                self.store().persist().unwrap();
                assert!(self.dir.is_none() || self.store().flushed() >= self.model.seq);
            }
            Step::Sweep => {
                if self.dir.is_some() {
                    self.store().persist().unwrap();
                }
                swept(self.store());
            }
            Step::Reopen { clean } => self.reopen(*clean),
        }
        assert_same(&self.store().view(), &self.model);
    }

    fn batch(&mut self, commits: &[Commit], published: bool) {
        let mut working = self.store().begin();
        let mut model = self.model.clone();
        let mut applied = Vec::new();
        for commit in commits {
            let seq = model.seq + 1;
            let (changes, private) = commit.changes(seq, &self.paths);
            let beside = working.view().after(seq, &changes);
            working.apply(seq, &changes, &private);
            let view = working.view().clone();
            assert_eq!(rows_below(&beside), rows_below(&view));
            model.apply(seq, &changes, &private);
            assert_same(&view, &model);
            self.assert_points(&view, &model);
            self.held.push((view, model.clone()));
            applied.push((changes, private));
        }
        if published {
            self.store().publish(working);
            self.model = model;
            self.log.extend(applied);
        }
        let surplus = self.held.len().saturating_sub(20);
        self.held.drain(..surplus);
    }

    fn assert_points(&self, view: &View, model: &Model) {
        for at in &self.paths {
            let wanted = model.rows.row(at).unwrap().map(|row| said(&row));
            assert_eq!(view.row(at).unwrap().map(|row| said(&row)), wanted, "{at}");
            let first = |rows: &dyn Rows| rows.scan(at, None, 1).unwrap().pop();
            let next = |rows: &dyn Rows, after: &Path, skip| {
                rows.scan(at, Some((after, skip)), 2).unwrap()
            };
            let names = |rows: Vec<(Path, Arc<Row>)>| {
                rows.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
            };
            let Some((child, _)) = first(&model.rows) else {
                assert!(first(view).is_none());
                continue;
            };
            assert_eq!(first(view).map(|(path, _)| path), Some(child.clone()));
            for skip in [Skip::Row, Skip::Subtree] {
                assert_eq!(
                    names(next(view, &child, skip)),
                    names(next(&model.rows, &child, skip))
                );
            }
        }
        for key in 0..6_u8 {
            assert_eq!(
                view.private(&[key]).unwrap().as_ref(),
                model.private.get(&[key][..])
            );
        }
    }

    fn reopen(&mut self, clean: bool) {
        let Some(dir) = &self.dir else { return };
        self.held.clear();
        let store = self.store.take().unwrap();
        if clean {
            store.shutdown().unwrap();
        } else {
            drop(store);
        }
        let store = open(dir.path(), self.settings);
        assert!(!clean || store.applied() == self.model.seq);
        let mut model = Model::default();
        for (seq, (changes, private)) in (1..).zip(&self.log) {
            if seq == store.applied() + 1 {
                assert_same(&store.view(), &model);
            }
            model.apply(seq, changes, private);
            if seq > store.applied() {
                let mut working = store.begin();
                working.apply(seq, changes, private);
                store.publish(working);
            }
        }
        self.store = Some(store);
    }
}

fn open(dir: &FsPath, settings: RowSettings) -> RowStore {
    RowStore::open(dir, settings).unwrap()
}

fn check(steps: &[Step], settings: RowSettings, on_disk: bool) {
    let mut run = Run::new(settings, on_disk);
    for step in steps {
        run.step(step);
    }
    for (view, model) in &run.held {
        assert_same(view, model);
        run.assert_points(view, model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_store_on_disk_says_what_the_map_says(steps in prop::collection::vec(steps(), 1..40)) {
        check(&steps, eager(), true);
    }

    #[test]
    fn a_store_that_writes_rarely_says_what_the_map_says(steps in prop::collection::vec(steps(), 1..40)) {
        check(&steps, RowSettings { reserve_bytes: 0, freeze_bytes: 2_000, ..RowSettings::default() }, true);
    }

    #[test]
    fn a_store_in_memory_says_what_the_map_says(steps in prop::collection::vec(steps(), 1..40)) {
        check(&steps, RowSettings { sweep_rows: 2, ..RowSettings::default() }, false);
    }
}
