//! Sapwood: value.
