//! Amounts of budgets.

/// Most that an amount can be: what every JSON reader keeps exactly (RFC 8259, section 6).
pub const MAX: u64 = (1 << 53) - 1;
