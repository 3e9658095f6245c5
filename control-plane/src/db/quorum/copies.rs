//! How many nodes a commit would be on.

use sqlx::PgConnection;

use crate::db::servers::streaming;

const QUESTION: &str = concat!(
    "SELECT current_setting('synchronous_standby_names'), ",
    streaming!()
);

/// As the server has it configured and sees it.
pub(super) async fn observe(connection: &mut PgConnection) -> sqlx::Result<u32> {
    let (names, streaming): (String, i64) = sqlx::query_as(QUESTION).fetch_one(connection).await?;
    Ok(copies(&names, streaming))
}

/// How many nodes flush a commit, the primary included, by its
/// `synchronous_standby_names` and how many standbys of that quorum stream.
///
/// `ANY k (…)` promises k standbys besides the primary; a priority list
/// (`FIRST k`) names fixed nodes and is no quorum, so it counts for none.
pub(in crate::db) fn copies(names: &str, streaming: i64) -> u32 {
    1 + promised_standbys(names).min(u32::try_from(streaming).unwrap_or(u32::MAX))
}

fn promised_standbys(names: &str) -> u32 {
    let mut words = names
        .split(|c: char| c.is_whitespace() || c == '(')
        .filter(|word| !word.is_empty());
    match (words.next(), words.next()) {
        (Some(any), Some(count)) if any.eq_ignore_ascii_case("any") => count.parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quorum_list_promises_copies() {
        assert_eq!(promised_standbys("ANY 1 (a, b)"), 1);
        assert_eq!(promised_standbys("any 2(a,b,c)"), 2);
        for none in ["", "*", "FIRST 1 (a)", "a, b", "ANY"] {
            assert_eq!(promised_standbys(none), 0, "{none}");
        }
    }
}
