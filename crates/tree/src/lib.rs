//! Sapwood: tree.
