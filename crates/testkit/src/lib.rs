//! Sapwood: testkit.
