//! Sapwood: core.
