//! What the database refuses, in the words of the domain.

use authguardian_proto::reason::Reason;

use crate::error::Error;

/// Constraint name → what its violation means to the caller.
const CONSTRAINTS: &[(&str, Reason, &str, &str)] = &[
    (
        "machine_name_key",
        Reason::JoinTokenUsed,
        "machine_name",
        "a machine of this name is enrolled already",
    ),
    (
        "api_key_public_key_key",
        Reason::InvalidArgument,
        "public_key",
        "this public key is registered already",
    ),
];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(refusal) = &error
            && let Some(name) = refusal.constraint()
            && let Some((_, reason, field, detail)) = CONSTRAINTS.iter().find(|row| row.0 == name)
        {
            return authguardian_proto::reason::Problem::new(*reason, *detail)
                .at(*field)
                .into();
        }
        if is_unreachable(&error) {
            return Self::new(
                Reason::Unavailable,
                "the database cannot be reached; try again",
            )
            .caused_by(error);
        }
        Self::internal(error)
    }
}

/// Whether the server, and not the statement, is at fault.
pub fn is_unreachable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::Configuration(_) => true,
        // classes: 08 connection, 53 resources, 57 operator intervention, 58 system; 25006 read-only,
        // 25P03 idle in a transaction for too long: this process stood still
        sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| {
            ["25006", "25P03"].contains(&&*code)
                || ["08", "53", "57", "58"]
                    .iter()
                    .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// Whether the same transaction may succeed when it is simply run again:
/// serialization failure, deadlock, lock timeout.
pub fn is_transient(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(refusal)
        if refusal.code().is_some_and(|code| ["40001", "40P01", "55P03"].contains(&&*code)))
}

/// The database error inside of an [`Error`], where there is one.
pub fn database_error(error: &Error) -> Option<&sqlx::Error> {
    error.cause()?.downcast_ref()
}
