/// What the tiers did since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub l1: TierStats,
    pub l2: TierStats,
    pub l3: TierStats,
}

/// What one tier did. A tier that is not configured stays at zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Reads that found what they asked for.
    pub hits: u64,
    pub misses: u64,
    /// Stored bytes read, as they lie in the tier: compressed and encrypted.
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// Requests that failed; a failing L1 or L2 counts as a miss, too.
    pub errors: u64,
    /// Objects that failed verification. In L1 and L2 they were dropped and fetched from L3.
    pub corrupt: u64,
    /// Objects that had to go for others.
    pub evictions: u64,
    /// What the tier holds now; `None` where that is not known without asking a server.
    pub resident_bytes: Option<u64>,
}
