//! The CloudWatch Logs service: groups, streams and events.
