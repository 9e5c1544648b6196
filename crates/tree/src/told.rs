//! Who is told what (design, 2.2).
//!
//! Written by a second pair of hands while the drafts and the reads are finished: leave this file to them.
