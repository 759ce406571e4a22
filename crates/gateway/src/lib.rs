//! The listener: accepts connections, authenticates, dispatches to the services, writes the request log.
