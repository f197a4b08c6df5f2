//! Who is told what, when something changes.
