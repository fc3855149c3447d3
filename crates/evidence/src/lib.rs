//! The record of a run: schema, JSON and binary containers, digests.
