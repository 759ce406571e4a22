use serde::{Deserialize, Serialize};

/// Settings of CloudWatch. Every default is documented at its field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Metrics per account and region; each combination of dimensions is one. Values of further
    /// ones are refused, or dropped if they come from logs or from the server. Default 50,000.
    pub max_metrics: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_metrics: 50_000,
        }
    }
}
