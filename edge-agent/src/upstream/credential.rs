//! What callers present: an API key, or a token of a session that one was
//! traded for.

use authguardian_proto::{
    credential::{PresentedKey, SessionToken},
    ids::ApiKeyId,
};

/// A credential as it was presented; wiped on drop.
#[derive(Debug)]
pub enum Credential {
    /// An API key, or text that is nothing else.
    Key(PresentedKey),
    /// A session token.
    Session(SessionToken),
}

impl Credential {
    /// Takes the text as it came.
    pub fn new(text: &str) -> Self {
        SessionToken::new(text).map_or_else(|| Self::Key(PresentedKey::new(text)), Self::Session)
    }

    /// The API key that it names, proved or not.
    pub fn claims(&self) -> Option<ApiKeyId> {
        match self {
            Self::Key(key) => key.claims(),
            Self::Session(token) => token.claims(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_from_a_key_by_its_form() {
        assert!(matches!(Credential::new("a.b.c"), Credential::Session(_)));
        for text in ["agk_0000000000000000000001_x", "", "a.b", "a.b.c.d"] {
            assert!(
                matches!(Credential::new(text), Credential::Key(_)),
                "{text}"
            );
        }
    }
}
