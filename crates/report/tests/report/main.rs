//! Every rendering of one rich analysis.
