//! Which keys of a board are asked for, and what is in them.

/// What every write writes: a small task, as agents would share it.
pub(crate) const VALUE: &str =
    r#"{"task":"reconcile","status":"running","owner":"data_analyst","progress": 42}"#;

/// Keys of which each client takes one after the other in a random order.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    count: u64,
    state: u64,
}

impl Keys {
    pub(crate) fn new(count: u64) -> Self {
        Self { count, state: 1 }
    }

    /// The same keys, in another order.
    pub(crate) fn of_client(&self, number: usize) -> Self {
        Self {
            count: self.count,
            state: self
                .state
                .wrapping_add(1 + number as u64)
                .wrapping_mul(0x9e37_79b9),
        }
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> String {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        key((mixed ^ (mixed >> 31)) % self.count)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.count).map(key)
    }
}

fn key(number: u64) -> String {
    format!("task/{number}")
}
