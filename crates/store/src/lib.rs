//! Embedded durable storage: revisioned records, ordered logs, timers and content-addressed blobs.
