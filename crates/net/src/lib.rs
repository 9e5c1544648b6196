//! Sapwood: net.
