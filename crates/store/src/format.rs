//! The version of a data folder: newer ones are refused.
