//! Fixed-length base62 (`0-9A-Za-z`): bytes as one big-endian number, padded
//! with `0`, so that equal lengths sort like the bytes and nothing needs
//! escaping in URLs, shells or headers.

/// The digits in ASCII order.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many digits `bytes` bytes take.
pub const fn digits_for(bytes: usize) -> usize {
    // 16 → 22 and 32 → 43 are the lengths in use; 8/log2(62) ≈ 1.34359.
    (bytes * 134_359).div_ceil(100_000)
}

/// Encodes `N` bytes into `digits_for(N)` digits.
pub fn encode<const N: usize>(bytes: &[u8; N]) -> String {
    let mut number: Vec<u32> = bytes.rchunks(4).rev().map(limb).collect();
    let mut digits = vec![b'0'; digits_for(N)];
    // five digits at a time: their power is the largest that fits a limb
    for five in digits.rchunks_mut(5) {
        let mut remainder = 0u64;
        for limb in &mut number {
            let value = (remainder << 32) | u64::from(*limb);
            *limb = u32::try_from(value / FIVE_DIGITS).unwrap_or_default(); // fits, since the remainder was below the divisor
            remainder = value % FIVE_DIGITS;
        }
        for digit in five.iter_mut().rev() {
            *digit = DIGITS[usize::try_from(remainder % 62).unwrap_or_default()];
            remainder /= 62;
        }
    }
    String::from_utf8(digits).unwrap_or_default() // they are ASCII
}

/// 62 to the fifth.
const FIVE_DIGITS: u64 = 916_132_832;

/// Up to four bytes, big-endian.
fn limb(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |limb, byte| (limb << 8) | u32::from(*byte))
}

/// Decodes exactly `digits_for(N)` digits; `None` for any other length, a
/// foreign character or a number that does not fit `N` bytes.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut number = [0u8; N];
    decode_into(text, &mut number).map(|()| number)
}

/// As [`decode`], into zeroed memory of the caller's, so that no other copy is
/// made.
pub fn decode_into(text: &str, number: &mut [u8]) -> Option<()> {
    if text.len() != digits_for(number.len()) {
        return None;
    }
    for digit in text.bytes() {
        let mut carry = u32::from(value_of(digit)?);
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 62 + carry;
            *byte = (value & 0xff) as u8;
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(())
}

fn value_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'Z' => Some(digit - b'A' + 10),
        b'a'..=b'z' => Some(digit - b'a' + 36),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_those_that_the_formats_promise() {
        assert_eq!((digits_for(16), digits_for(32)), (22, 43));
        assert_eq!(encode(&[0xff; 16]), "7n42DGM5Tflk9n8mt7Fhc7");
    }

    #[test]
    fn a_number_beyond_the_bytes_is_refused() {
        assert_eq!(decode::<16>(&"z".repeat(22)), None);
        assert_eq!(decode::<16>("0"), None);
        assert_eq!(decode::<16>(&"-".repeat(22)), None);
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes(bytes: [u8; 32]) {
            prop_assert_eq!(decode::<32>(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn order_is_kept(a: [u8; 16], b: [u8; 16]) {
            prop_assert_eq!(a.cmp(&b), encode(&a).cmp(&encode(&b)));
        }

        #[test]
        fn rubbish_never_panics(text in "\\PC{0,60}") {
            let _ = decode::<32>(&text);
        }
    }
}
