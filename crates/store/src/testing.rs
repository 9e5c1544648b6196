//! For tests: a disk that fails on demand, and what every commit log must do.
