//! The rows of a database: what its commits add up to.
