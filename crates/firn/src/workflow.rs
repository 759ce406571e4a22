//! What the commands make of workflows: definitions read from files, and pictures and timelines of
//! what has run. Nothing here talks to a server.

pub mod condition;
pub mod duration;
pub mod event;
pub mod graph;
pub mod layout;
pub mod mermaid;
pub mod outcome;
pub mod rehearsal;
pub mod resource;
pub mod source;
pub mod svg;
#[cfg(test)]
mod tests;
pub mod text;
pub mod timeline;
pub mod trace;
