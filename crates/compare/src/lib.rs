//! Facts about two or more records: which bits differ, by how much, and where first.
