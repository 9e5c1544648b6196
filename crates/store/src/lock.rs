//! One process per data folder.
