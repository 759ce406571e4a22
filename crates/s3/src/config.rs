use serde::{Deserialize, Serialize};

/// Settings of the embedded S3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Contents up to this size are kept in the store, larger ones in files of their own. At most
    /// 1 MiB counts. Default 16 KiB.
    pub inline_bytes: usize,
    /// Largest body of one PutObject or UploadPart. Default 5 GiB, as on AWS.
    pub max_put_bytes: u64,
    /// Largest object that parts are put together to. Default 5 TiB.
    pub max_object_bytes: u64,
    /// Smallest size of all parts but the last. Default 5 MiB, as on AWS.
    pub min_part_bytes: u64,
    /// Multipart uploads that nobody completed are dropped after this time. Default 0, which means
    /// never, as on AWS.
    pub drop_uploads_after_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inline_bytes: 16 << 10,
            max_put_bytes: 5 << 30,
            max_object_bytes: 5 << 40,
            min_part_bytes: 5 << 20,
            drop_uploads_after_days: 0,
        }
    }
}

impl Config {
    const MAX_INLINE_BYTES: usize = 1 << 20;

    pub(crate) fn inline(&self) -> usize {
        self.inline_bytes.min(Self::MAX_INLINE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"inline_bytes": 3}"#).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"inline": 3}"#).is_err());
    }
}
