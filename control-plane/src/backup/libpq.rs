//! How PostgreSQL's own programs reach the server: by their environment, since
//! arguments are seen by every user of the machine.

use std::ffi::OsString;

use percent_encoding::percent_decode_str;
use sqlx::postgres::PgConnectOptions;

use crate::config::DatabaseUrl;

/// One server as libpq's environment names it (PostgreSQL manual, "Environment
/// Variables").
#[derive(Clone)]
pub(super) struct Environment {
    pub(super) variables: Vec<(&'static str, OsString)>,
    /// The database's name.
    pub(super) database: String,
}

impl Environment {
    /// Of one of the servers of a URL, which has the password.
    pub(super) fn of(server: &PgConnectOptions, url: &DatabaseUrl) -> Self {
        let host = match server.get_socket() {
            Some(directory) => directory.clone().into_os_string(),
            None => server.get_host().into(),
        };
        let database = server.get_database().unwrap_or(server.get_username());
        let mut variables: Vec<(&'static str, OsString)> = vec![
            ("PGHOST", host),
            ("PGPORT", server.get_port().to_string().into()),
            ("PGUSER", server.get_username().into()),
            ("PGDATABASE", database.into()),
            ("PGAPPNAME", "authguardian backup".into()),
            // messages are shown as they are
            ("LC_ALL", "C".into()),
        ];
        variables.extend(given(url.expose()));
        Self {
            variables,
            database: database.to_owned(),
        }
    }
}

/// Password and TLS settings of a URL.
fn given(url: &str) -> Vec<(&'static str, OsString)> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let mut given = Vec::new();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if let Some((_, password)) = user.split_once(':') {
        given.push(("PGPASSWORD", decoded(password)));
    }
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let variable = match name {
            "password" => "PGPASSWORD",
            "sslmode" | "ssl-mode" => "PGSSLMODE",
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => "PGSSLROOTCERT",
            "sslcert" | "ssl-cert" => "PGSSLCERT",
            "sslkey" | "ssl-key" => "PGSSLKEY",
            _ => continue,
        };
        // a query writes a blank as `+`
        given.push((variable, decoded(&value.replace('+', " "))));
    }
    given
}

fn decoded(text: &str) -> OsString {
    percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Vec<(&'static str, String)> {
        let url = DatabaseUrl::from(url.to_owned());
        let server = url.servers().unwrap().remove(0);
        let variables = Environment::of(&server, &url).variables.into_iter();
        variables
            .map(|(name, value)| (name, value.into_string().unwrap()))
            .collect()
    }

    #[test]
    fn a_url_becomes_an_environment_with_its_password() {
        let variables = of("postgres://ag:p%40s:s@db:5433/guard?sslmode=require&sslrootcert=%2Fca");
        for expected in [
            ("PGHOST", "db"),
            ("PGPORT", "5433"),
            ("PGUSER", "ag"),
            ("PGDATABASE", "guard"),
            ("PGPASSWORD", "p@s:s"),
            ("PGSSLMODE", "require"),
            ("PGSSLROOTCERT", "/ca"),
        ] {
            let is_there = |(name, value): &(&str, String)| (*name, value.as_str()) == expected;
            assert!(variables.iter().any(is_there), "{expected:?}");
        }
    }

    #[test]
    fn a_socket_is_a_host_and_without_a_password_none_is_set() {
        let variables = of("postgres://postgres@localhost/guard?host=%2Frun%2Fpg");
        assert!(variables.contains(&("PGHOST", "/run/pg".to_owned())));
        assert!(variables.iter().all(|(name, _)| *name != "PGPASSWORD"));
    }
}
