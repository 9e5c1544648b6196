//! Records over a tree: paths, rows, writes, and who is told what.
//!
//! Everything here is pure: rows are read through [`Rows`], and a [`Draft`] says which rows a commit changes; nothing
//! here knows where rows are kept. Section numbers are those of the design.

mod declared;
pub mod escape;
mod filter;
mod key;
mod limits;
mod path;
mod payload;
mod query;
mod read;
mod row;
mod rows;
mod stream;
mod told;
mod walk;
mod write;

pub use declared::{Declared, Pattern, PatternError};
pub use filter::{FilterError, FilterIndex, FilterLevel, TopicFilter};
pub use limits::Limits;
pub use path::{Path, PathError, Segments, is_segment};
pub use payload::{Encoded, FixedForm, NotOfForm, Payload, PayloadForm};
pub use query::{Query, QueryError, QueryErrorKind, QueryLimits};
pub use read::{
    ReadError, children, count_children, covered_above, document, exists, has_records_below, own,
    own_exists, record_of, tree_value,
};
pub use row::{Below, Row, RowError, RowKind};
pub use rows::{MemoryRows, Rows, RowsError, SCAN_BYTES, Skip, is_end};
pub use stream::TreeStream;
pub use told::{FirstTopics, Told, TopicValue, What, told, told_value, written_value};
pub use write::{Applied, Draft, Op, OpError, OpKind, RowChanges, Settings, WriteError};
