//! Amounts as people write them.

use authguardian_proto::amount::MAX as MAX_AMOUNT;

/// Reads an amount that is to be moved: a whole number, at least 1.
pub(super) fn parse_amount(text: &str) -> Result<u64, String> {
    parse_from(1, text)
}

/// Reads an amount that was spent: a whole number, or nothing at all.
pub(super) fn parse_spent(text: &str) -> Result<u64, String> {
    parse_from(0, text)
}

fn parse_from(least: u64, text: &str) -> Result<u64, String> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let amount = text.parse().ok().filter(|_| is_number);
    amount
        .filter(|amount| (least..=MAX_AMOUNT).contains(amount))
        .ok_or_else(|| format!("expected a whole number from {least} to {MAX_AMOUNT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_whole_number_that_every_reader_keeps() {
        assert_eq!(parse_amount("1"), Ok(1));
        assert_eq!(parse_amount("9007199254740991"), Ok(MAX_AMOUNT));
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "10_000",
            "1 000",
            "9007199254740992",
            "18446744073709551616",
            "tokens",
        ] {
            let refused = parse_amount(text).unwrap_err();
            assert!(refused.contains("from 1 to 9007199254740991"), "{text}");
        }
    }

    #[test]
    fn nothing_may_have_been_spent() {
        assert_eq!(parse_spent("0"), Ok(0));
        assert!(parse_spent("-1").is_err());
        assert!(parse_spent("0.5").is_err());
    }
}
