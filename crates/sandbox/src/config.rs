//! What an operator decides once for all environments of a server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::cgroup::Freezer;

/// Settings of [`Sandboxes::start`](crate::Sandboxes::start).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Prepared environments kept ready in the background.
    pub pool_size: usize,
    /// Environments that may exist at once, the pool included.
    pub max_environments: u32,
    /// Environments that may be under construction at once.
    pub create_parallelism: usize,
    /// Ports on which a listener is bound to 127.0.0.1 inside every environment, before any
    /// function code runs there.
    pub listen_ports: Vec<u16>,
    /// Whether functions reach the network outside of their environment.
    pub egress: Egress,
    /// Addresses for the links between environments and host, cut into one block per server. The
    /// default is the range that RFC 2544 sets aside for test networks.
    pub egress_network: String,
    /// Host directories visible read-only at the same path inside.
    pub system_dirs: Vec<PathBuf>,
    /// First host user id of the range that environments run under. Each environment uses two.
    /// Only used when started as root.
    pub uid_base: u32,
    /// Directory for notes on the cgroups in use, so that a later server can remove those of a
    /// killed one wherever they are. Nobody but the server's user may be able to write there or
    /// above. Where it cannot be written, only groups beside the server's own are cleaned up.
    pub state_dir: PathBuf,
    /// Forces a kind of freezer instead of the best that the host has.
    pub freezer: Option<Freezer>,
    /// What may be missing. Everything not named here must work, or the start fails.
    pub allow: Relaxations,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pool_size: 4,
            max_environments: 4096,
            create_parallelism: 4,
            listen_ports: vec![9001, 4566],
            egress: Egress::default(),
            egress_network: "198.18.0.0/15".into(),
            system_dirs: ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"]
                .map(PathBuf::from)
                .to_vec(),
            uid_base: 1_900_000_000,
            state_dir: PathBuf::from("/run/firn"),
            freezer: None,
            allow: Relaxations::default(),
        }
    }
}

/// Network beyond the environment's own loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Through the host with its addresses translated, where the host permits; otherwise none, and
    /// `doctor` says so.
    #[default]
    Auto,
    /// As `Auto`, but a host that cannot do it is an error at start.
    Nat,
    /// Loopback only.
    Deny,
}

/// Protections that may be absent. Each one weakens the isolation of functions, so each needs a
/// word from the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relaxations {
    /// Run without memory and process limits when no cgroup can be used.
    pub no_cgroup: bool,
    /// Freeze with SIGSTOP, which functions can notice, when no freezer can be used.
    pub no_freezer: bool,
    /// Run without a user namespace (as root only).
    pub no_userns: bool,
    /// Run without a system call filter.
    pub no_seccomp: bool,
}

impl Relaxations {
    /// Everything the kernel lacks is accepted.
    pub const ALL: Self = Self {
        no_cgroup: true,
        no_freezer: true,
        no_userns: true,
        no_seccomp: true,
    };
}
