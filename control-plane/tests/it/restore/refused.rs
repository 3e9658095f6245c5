//! What is not backed up, and not restored: each is told in a sentence, and
//! nothing is done.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use super::{Backup, Empty, refused, verb};
use crate::rig::Rig;

/// Tries to restore, and fails unless that is refused with this sentence and
/// leaves the database empty.
async fn is_refused(rig: &Rig, backup: &Backup, sentence: &str) {
    let empty = Empty::beside(&rig.database).await;
    let arguments = ["restore", "--input", backup.path()];
    let (said, _) = refused(verb(&rig.config, &empty.url, &arguments)).await;
    assert!(said.contains(sentence), "`{sentence}` is not in:\n{said}");
    assert_eq!(empty.holds().await, 0, "something was restored");
}

/// The dump, changed, and the manifest too where `told`.
fn damage(backup: &Backup, told: bool, change: impl FnOnce(&mut Vec<u8>)) {
    let path = backup.directory.join("database.dump");
    let mut dump = std::fs::read(&path).unwrap();
    change(&mut dump);
    std::fs::write(&path, &dump).unwrap();
    if told {
        let hash = digest(&SHA256, &dump);
        let digits = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let hash = digits.collect::<Vec<_>>().concat();
        backup.change(|manifest| {
            manifest["dump"]["sha256"] = json!(hash);
            manifest["dump"]["bytes"] = json!(dump.len());
        });
    }
}

#[tokio::test]
async fn a_dump_that_is_not_the_one_of_the_manifest_is_refused() {
    let rig = Rig::open().await;
    let (backup, ..) = Backup::of(&rig.config).await;
    damage(&backup, false, |dump| {
        let middle = dump.len() / 2;
        dump[middle] ^= 1;
    });
    is_refused(&rig, &backup, "is not what was backed up").await;
    std::fs::remove_file(backup.directory.join("database.dump")).unwrap();
    is_refused(&rig, &backup, "database.dump").await;
}

#[tokio::test]
async fn a_damaged_dump_leaves_the_database_empty() {
    let rig = Rig::open().await;
    let (backup, ..) = Backup::of(&rig.config).await;
    // its list is whole, its data is not
    damage(&backup, true, |dump| dump.truncate(dump.len() - 4096));
    is_refused(&rig, &backup, "nothing was restored").await;
    damage(&backup, true, |dump| dump.truncate(100));
    is_refused(&rig, &backup, "`pg_restore` ended with").await;
}

type Change = fn(&mut serde_json::Value);

#[tokio::test]
async fn a_newer_schema_another_trust_domain_and_another_form_are_refused() {
    let rig = Rig::open().await;
    let (backup, ..) = Backup::of(&rig.config).await;
    let whole = backup.manifest();
    let changes: [(&str, Change); 4] = [
        ("is newer than this program's", |manifest| {
            manifest["facts"]["schema_version"] = json!(29_991_231_000_000_i64);
        }),
        ("the backup is of `example.net`", |manifest| {
            manifest["facts"]["trust_domain"] = json!("example.net");
        }),
        ("is not of a form that this program reads", |manifest| {
            manifest["format"] = json!(2);
        }),
        ("is no manifest of a backup", |manifest| {
            manifest["facts"] = json!({});
        }),
    ];
    for (sentence, change) in changes {
        backup.change(|manifest| {
            *manifest = whole.clone();
            change(manifest);
        });
        is_refused(&rig, &backup, sentence).await;
    }
}

#[tokio::test]
async fn what_was_restored_and_is_not_what_the_manifest_says_is_told() {
    let rig = Rig::open().await;
    let (backup, ..) = Backup::of(&rig.config).await;
    backup.change(|manifest| manifest["facts"]["streams"]["grants"] = json!(999));
    let empty = Empty::beside(&rig.database).await;
    let arguments = ["restore", "--input", backup.path()];
    let (said, _) = refused(verb(&rig.config, &empty.url, &arguments)).await;
    assert!(said.contains("heads of the streams"), "{said}");
    assert!(said.contains("drop this database"), "{said}");
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_left_as_it_is() {
    let rig = Rig::open().await;
    let (backup, ..) = Backup::of(&rig.config).await;
    let arguments = ["restore", "--input", backup.path()];
    let url = rig.config.database.url.expose();
    let (said, code) = refused(verb(&rig.config, url, &arguments)).await;
    assert!(said.contains("is not empty: it has"), "{said}");
    assert_eq!(code, 2);
    let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM installation")
        .fetch_one(rig.database.pool())
        .await
        .unwrap();
    assert_eq!(epoch, 1);
}

#[tokio::test]
async fn a_backup_overwrites_nothing_and_names_the_program_that_is_missing() {
    let rig = Rig::open().await;
    let (backup, ..) = Backup::of(&rig.config).await;
    let before = backup.manifest();
    let url = rig.config.database.url.expose();
    let again = ["backup", "--output", backup.path()];
    let (said, code) = refused(verb(&rig.config, url, &again)).await;
    assert!(said.contains("is not empty; name another"), "{said}");
    assert_eq!(code, 2);
    assert_eq!(backup.manifest(), before);

    let other = backup.files.path().join("tuesday");
    let path = other.to_str().unwrap();
    let without = |arguments: &[&str]| {
        let mut command = verb(&rig.config, url, arguments);
        command.env("PG_BIN_DIR", backup.files.path());
        command
    };
    let (said, _) = refused(without(&["backup", "--output", path])).await;
    assert!(said.contains("`pg_dump` is not found"), "{said}");
    assert_eq!(std::fs::read_dir(backup.files.path()).unwrap().count(), 1);

    let old = backup.files.path().join("pg_dump");
    std::fs::write(&old, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&old, mode).unwrap();
    std::fs::copy(&old, backup.files.path().join("pg_restore")).unwrap();
    let (said, _) = refused(without(&["backup", "--output", path])).await;
    assert!(
        said.contains("is of PostgreSQL 9, and the server of"),
        "{said}"
    );
    assert!(!other.exists());
}

#[tokio::test]
async fn nothing_is_backed_up_of_a_database_that_was_never_served() {
    let rig = Rig::open().await;
    let empty = Empty::beside(&rig.database).await;
    let files = tempfile::tempdir().unwrap();
    let output = files.path().join("monday");
    let arguments = ["backup", "--output", output.to_str().unwrap()];
    let (said, _) = refused(verb(&rig.config, &empty.url, &arguments)).await;
    assert!(said.contains("holds no installation yet"), "{said}");
    assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 0);
}
