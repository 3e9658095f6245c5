//! Where a page of found agents ended.

use std::{fmt, str::FromStr};

use authguardian_proto::{ids::AgentId, liveness::Liveness};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Registration;
use crate::error::{Error, Result};

/// The rank of the last agent of a page, opaque to callers. Ordered as pages
/// are: the live first, those of the near machine, the trusted, then by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub(super) liveness: Liveness,
    /// Not on the near machine.
    pub(super) elsewhere: bool,
    pub(super) distrust: i16,
    pub(super) agent_id: AgentId,
}

impl Cursor {
    pub(super) fn of(registration: &Registration, elsewhere: bool) -> Self {
        Self {
            liveness: registration.liveness,
            elsewhere,
            distrust: distrust(registration.trust),
            agent_id: registration.agent_id.clone(),
        }
    }
}

/// As indexes order it.
pub(super) fn distrust(trust: u32) -> i16 {
    1000 - i16::try_from(trust.min(1000)).unwrap_or(1000)
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = format!(
            "{} {} {} {}",
            self.liveness.number(),
            u8::from(self.elsewhere),
            self.distrust,
            self.agent_id
        );
        f.write_str(&URL_SAFE_NO_PAD.encode(plain))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        read(text).ok_or_else(|| {
            Error::invalid(
                "page_token",
                "expected the `next_page_token` of the page before",
            )
        })
    }
}

fn read(text: &str) -> Option<Cursor> {
    let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = plain.splitn(4, ' ');
    Some(Cursor {
        liveness: Liveness::from_number(parts.next()?.parse().ok()?)?,
        elsewhere: match parts.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        },
        distrust: parts
            .next()?
            .parse()
            .ok()
            .filter(|at| (0..=1000).contains(at))?,
        agent_id: parts.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let cursor = Cursor {
            liveness: Liveness::Suspect,
            elsewhere: true,
            distrust: 200,
            agent_id: "team/scout".parse().unwrap(),
        };
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        let of = |plain: &str| URL_SAFE_NO_PAD.encode(plain);
        for bad in [
            "x!",
            "scout",
            &of(""),
            &of("3 0 0 a"),
            &of("0 2 0 a"),
            &of("0 0 1001 a"),
            &of("0 0 -1 a"),
            &of("0 0 1"),
            &of("0 0 1 a b"),
        ] {
            let refused = bad.parse::<Cursor>().unwrap_err();
            assert_eq!(refused.problem().field.as_deref(), Some("page_token"));
        }
    }
}
