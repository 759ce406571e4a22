//! Test support: an in-process server, a manual clock and fixtures.
