//! The import rules of the design, checked on the sources.
