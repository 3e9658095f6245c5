//! The import rules of the design, checked on the sources of both daemons:
//! rooms stand on floors, and a room uses only what is below it. What crosses
//! the border of the crate (SQL, gRPC, HTTP) is kept to the rooms it belongs to.
//!
//! The sources are read as words, not parsed: it takes a path to use something,
//! and a path looks the same in code, in a `use` and in a macro.

mod rules;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use self::{
    rules::{CONTROL_PLANE, Crate, EDGE},
    source::Source,
};

#[test]
fn the_control_plane_imports_downwards_only() {
    assert_kept(&CONTROL_PLANE, "src");
}

#[test]
fn the_edge_imports_downwards_only() {
    assert_kept(&EDGE, "../edge-agent/src");
}

fn assert_kept(rules: &Crate, root: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut violations = Vec::new();
    for path in files(&root) {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        violations.extend(rules.violations(&Source::read(name, &text)));
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[track_caller]
fn caught(rules: &Crate, file: &str, text: &str, expected: &[&str]) {
    let violations = rules.violations(&Source::read(file, text));
    let found: Vec<_> = violations
        .iter()
        .map(|violation| violation.split_once(": ").unwrap().1)
        .collect();
    assert_eq!(found, expected, "in {text}");
}

#[test]
fn a_higher_room_is_caught_however_it_is_named() {
    let upwards = ["`db` may not use `grants`, which is above it"];
    for text in [
        "use crate::grants::Grants;",
        "use crate::{\n    error::Error,\n    grants::{self, Grants},\n};",
        "fn f() { crate::grants::sweep() }",
        "fn f() { tracing::info!(\"{}\", crate::grants::NAME) }",
        "use super::super::grants;",
        "use super::{super::grants::Grants, pool};",
        "mod inner { use super::super::super::grants; }",
        "use crate :: grants;",
    ] {
        caught(&CONTROL_PLANE, "db/pool.rs", text, &upwards);
    }
    caught(&CONTROL_PLANE, "db/mod.rs", "use super::grants;", &upwards);
    caught(&CONTROL_PLANE, "db.rs", "use super::grants;", &upwards);
}

#[test]
fn lower_rooms_the_own_room_comments_and_strings_are_free() {
    for text in [
        "use crate::{db::Pools, error::Error, policy, identity::Machine};",
        "use super::store; use super::super::policy; use self::rules::Rule;",
        "use crate::grants::record::Record;",
        "// crate::grpc\n/* crate::grpc /* nested */ crate::app */",
        "/// [`crate::grpc`]\nconst A: &str = \"crate::grpc\"; const B: &str = r#\"\" crate::app\"#;",
        "fn f<'a>(x: &'a str, c: char) -> bool { c == '\"' || c == '\\'' } // \" crate::app",
        "use some_crate::grpc; use x::crate_::app; mod grpc_like {}",
        "mod tests { use super::super::policy; }",
    ] {
        caught(&CONTROL_PLANE, "grants/request.rs", text, &[]);
    }
}

#[test]
fn transports_and_edge_nouns_never_use_each_other() {
    let text = "use crate::grpc::Listener;";
    caught(
        &CONTROL_PLANE,
        "jobs/mod.rs",
        text,
        &["`jobs` may not use `grpc`, which is beside it"],
    );
    let text = "use crate::{journal, config::Config};";
    caught(
        &EDGE,
        "upstream/mod.rs",
        text,
        &["`upstream` may not use `journal`, which is beside it"],
    );
    let text = "use crate::{core::Core, upstream};";
    caught(&EDGE, "faces/rest.rs", text, &[]);
    caught(
        &EDGE,
        "core.rs",
        "use crate::mcp;",
        &["`core` may not use `mcp`, which is above it"],
    );
}

#[test]
fn a_room_without_a_floor_is_caught() {
    caught(
        &CONTROL_PLANE,
        "cellar.rs",
        "",
        &["`cellar` has no floor: give it one in tests/it/architecture/rules.rs"],
    );
}

#[test]
fn sql_outside_of_stores_is_caught() {
    let found = ["`sqlx::query_as` is for store.rs, db/ only"];
    caught(
        &CONTROL_PLANE,
        "grants/mod.rs",
        "fn f() { sqlx::query_as!(Row, \"SELECT 1\") }",
        &found,
    );
    caught(
        &CONTROL_PLANE,
        "grants/mod.rs",
        "use sqlx::{PgConnection, query_as};",
        &found,
    );
    caught(
        &CONTROL_PLANE,
        "grants/store.rs",
        "use sqlx::query_as;",
        &[],
    );
    caught(
        &CONTROL_PLANE,
        "grants/store/read.rs",
        "use sqlx::query_as;",
        &[],
    );
    caught(&CONTROL_PLANE, "db/quorum.rs", "use sqlx::query_as;", &[]);
    caught(
        &CONTROL_PLANE,
        "grants/mod.rs",
        "use sqlx::PgConnection;",
        &[],
    );
}

#[test]
fn transports_outside_of_their_rooms_are_caught() {
    caught(
        &CONTROL_PLANE,
        "grants/mod.rs",
        "use authguardian_proto::{grants::v1::Grant, reason::Reason}; use tonic::Status; use axum::Json;",
        &[
            "`authguardian_proto::grants::v1` is for grpc/, serve/, cli/ only",
            "`tonic` is for grpc/, serve/, cli/ only",
            "`axum` is for http/, serve/ only",
        ],
    );
    let text = "use authguardian_proto::grants::v1; use tonic::Status;";
    caught(&CONTROL_PLANE, "grpc/grant.rs", text, &[]);
    caught(
        &EDGE,
        "core.rs",
        "use axum::Router;",
        &["`axum` is for faces/, app only"],
    );
}

#[test]
fn the_other_daemon_and_test_support_are_for_tests() {
    let text = "use control_plane::app::App;";
    caught(
        &EDGE,
        "app.rs",
        text,
        &["`control_plane` is for tests only"],
    );
    let text = "use crate::testing::TestDatabase;";
    caught(
        &CONTROL_PLANE,
        "events/mod.rs",
        text,
        &["`testing` is for tests only"],
    );
    let text = "#[cfg(test)] mod tests { use crate::testing::TestDatabase; }";
    caught(&CONTROL_PLANE, "events/mod.rs", text, &[]);
    caught(
        &CONTROL_PLANE,
        "events/stream_tests.rs",
        "use crate::testing::TestDatabase;",
        &[],
    );
}
