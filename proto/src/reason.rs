//! The one table of errors: every stable reason, its code, and how a code
//! reads in gRPC and HTTP.

use std::time::Duration;

/// What kind of error a reason is; each maps to one gRPC and one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is not of its form.
    InvalidArgument,
    /// The request or a part of it is over its bound.
    TooLarge,
    /// No credential, or one that no longer counts.
    Unauthenticated,
    /// The credential does not allow it.
    PermissionDenied,
    /// What was named does not exist, or not for this caller.
    NotFound,
    /// It collides with what is there.
    Conflict,
    /// Not in the present state.
    FailedPrecondition,
    /// A position that can no longer be served.
    OutOfRange,
    /// Too many calls of this caller; try again later.
    RateLimited,
    /// A bound of the system is reached.
    ResourceExhausted,
    /// Not now; a retry is safe.
    Unavailable,
    /// It may or may not have happened; a retry with the same request id tells.
    OutcomeUnknown,
    /// Our fault; the log has the cause.
    Internal,
}

impl Code {
    /// The gRPC status code number
    /// (<https://grpc.io/docs/guides/status-codes/>).
    pub const fn grpc(self) -> i32 {
        match self {
            Self::OutcomeUnknown => 2,
            Self::InvalidArgument => 3,
            Self::NotFound => 5,
            Self::PermissionDenied => 7,
            Self::TooLarge | Self::RateLimited | Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Conflict => 10,
            Self::OutOfRange => 11,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// The HTTP status code (RFC 9110; 429 from RFC 6585).
    pub const fn http(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::FailedPrecondition => 409,
            Self::OutOfRange => 410,
            Self::TooLarge => 413,
            Self::RateLimited | Self::ResourceExhausted => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::OutcomeUnknown => 504,
        }
    }

    /// The exit code of the command line: 1 failure, 2 usage, 3 not found,
    /// 4 denied, 5 conflict, 6 unavailable, 7 outcome unknown.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Internal | Self::OutOfRange => 1,
            Self::InvalidArgument | Self::TooLarge => 2,
            Self::NotFound => 3,
            Self::Unauthenticated | Self::PermissionDenied => 4,
            Self::Conflict | Self::FailedPrecondition => 5,
            Self::RateLimited | Self::ResourceExhausted | Self::Unavailable => 6,
            Self::OutcomeUnknown => 7,
        }
    }
}

macro_rules! reasons {
    ($($name:ident = $text:literal, $code:ident;)*) => {
        /// A stable reason; its text never changes once released.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is named by its text, which the design lists")]
        pub enum Reason {
            $($name,)*
        }

        impl Reason {
            /// All of them, in the design's order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text, such as `GRANT_REVOKED`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What kind of error it is.
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                }
            }
        }
    };
}

reasons! {
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument;
    TooLarge = "TOO_LARGE", TooLarge;
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated;
    ApiKeyUnknown = "API_KEY_UNKNOWN", Unauthenticated;
    ApiKeyExpired = "API_KEY_EXPIRED", Unauthenticated;
    ApiKeyRevoked = "API_KEY_REVOKED", Unauthenticated;
    SessionExpired = "SESSION_EXPIRED", Unauthenticated;
    NonceExpired = "NONCE_EXPIRED", Unauthenticated;
    NonceUsed = "NONCE_USED", Unauthenticated;
    SignatureInvalid = "SIGNATURE_INVALID", Unauthenticated;
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied;
    AddressNotAllowed = "ADDRESS_NOT_ALLOWED", PermissionDenied;
    OriginNotAllowed = "ORIGIN_NOT_ALLOWED", PermissionDenied;
    ZoneForbids = "ZONE_FORBIDS", PermissionDenied;
    AgentMismatch = "AGENT_MISMATCH", PermissionDenied;
    UnknownAgent = "UNKNOWN_AGENT", NotFound;
    UnknownResourceType = "UNKNOWN_RESOURCE_TYPE", NotFound;
    JustificationRejected = "JUSTIFICATION_REJECTED", PermissionDenied;
    TrustTooLow = "TRUST_TOO_LOW", PermissionDenied;
    RiskTooHigh = "RISK_TOO_HIGH", PermissionDenied;
    ScoreTooLow = "SCORE_TOO_LOW", PermissionDenied;
    ScopeTooBroad = "SCOPE_TOO_BROAD", PermissionDenied;
    PolicyForbids = "POLICY_FORBIDS", PermissionDenied;
    TtlTooLong = "TTL_TOO_LONG", InvalidArgument;
    ApprovalUnavailable = "APPROVAL_UNAVAILABLE", PermissionDenied;
    Suspended = "SUSPENDED", PermissionDenied;
    TokenInvalid = "TOKEN_INVALID", InvalidArgument;
    TokenForeignKey = "TOKEN_FOREIGN_KEY", InvalidArgument;
    GrantExpired = "GRANT_EXPIRED", FailedPrecondition;
    GrantRevoked = "GRANT_REVOKED", FailedPrecondition;
    GrantNotFound = "GRANT_NOT_FOUND", NotFound;
    ResourceMismatch = "RESOURCE_MISMATCH", FailedPrecondition;
    Stale = "STALE", Unavailable;
    RateLimited = "RATE_LIMITED", RateLimited;
    ResourceExhausted = "RESOURCE_EXHAUSTED", ResourceExhausted;
    RequestIdReused = "REQUEST_ID_REUSED", Conflict;
    OutcomeUnknown = "OUTCOME_UNKNOWN", OutcomeUnknown;
    Unavailable = "UNAVAILABLE", Unavailable;
    Compacted = "COMPACTED", OutOfRange;
    Lagged = "LAGGED", OutOfRange;
    MachineBanned = "MACHINE_BANNED", PermissionDenied;
    MachineEvicted = "MACHINE_EVICTED", PermissionDenied;
    JoinTokenInvalid = "JOIN_TOKEN_INVALID", Unauthenticated;
    JoinTokenUsed = "JOIN_TOKEN_USED", Unauthenticated;
    BoardNotFound = "BOARD_NOT_FOUND", NotFound;
    KeyNotFound = "KEY_NOT_FOUND", NotFound;
    RevisionConflict = "REVISION_CONFLICT", Conflict;
    UnsupportedForLevel = "UNSUPPORTED_FOR_LEVEL", FailedPrecondition;
    BudgetNotFound = "BUDGET_NOT_FOUND", NotFound;
    BudgetExhausted = "BUDGET_EXHAUSTED", ResourceExhausted;
    BudgetFrozen = "BUDGET_FROZEN", FailedPrecondition;
    ReservationNotFound = "RESERVATION_NOT_FOUND", NotFound;
    AlreadySettled = "ALREADY_SETTLED", Conflict;
    LeaseExpired = "LEASE_EXPIRED", FailedPrecondition;
    Internal = "INTERNAL", Internal;
}

impl Reason {
    /// Whether it is told before request ids are looked at: then it says
    /// nothing of an earlier try of the same request whose reply was lost.
    pub const fn precedes_request_ids(self) -> bool {
        let comes_before = matches!(
            self.code(),
            Code::Unauthenticated
                | Code::RateLimited
                | Code::ResourceExhausted
                | Code::Unavailable
                | Code::Internal
        );
        // what is left of a budget is looked at in the transaction of the request
        let is_judged = matches!(self, Self::BudgetExhausted);
        comes_before && !is_judged || matches!(self, Self::MachineBanned | Self::MachineEvicted)
    }

    /// Reads the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == text)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a caller is told about an error: never a cause, which goes to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The stable reason.
    pub reason: Reason,
    /// One sentence: what was expected, or what to do next.
    pub detail: String,
    /// The request's field, where one is at fault.
    pub field: Option<String>,
    /// When to try again, whole seconds from now, where that is known.
    pub retry_after_seconds: Option<u32>,
}

impl Problem {
    /// An error that no single field is at fault for.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            field: None,
            retry_after_seconds: None,
        }
    }

    /// Too many calls: the wait is told in whole seconds, rounded up.
    pub fn rate_limited(detail: impl Into<String>, wait: Duration) -> Self {
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            retry_after_seconds: Some(u32::try_from(whole.max(1)).unwrap_or(u32::MAX)),
            ..Self::new(Reason::RateLimited, detail)
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// A field that is not of its form.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Reason::InvalidArgument, detail).at(field)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)?;
        match &self.field {
            Some(field) => write!(f, " (field `{field}`)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_900, 60)] {
            let problem = Problem::rate_limited("wait", Duration::from_millis(millis));
            assert_eq!(problem.retry_after_seconds, Some(seconds), "{millis} ms");
            assert_eq!(problem.reason, Reason::RateLimited);
        }
    }

    #[test]
    fn every_reason_reads_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::ALL.len(), 55);
        assert_eq!(Reason::parse("NOPE"), None);
    }
}
