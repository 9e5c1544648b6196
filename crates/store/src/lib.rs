//! Sapwood: store.
