//! The verifier of the command line and the one in Python agree on every
//! export and proof, good or not.

use authguardian_proto::merkle::leaf_hash;
use serde_json::{Value, json};

use super::{
    made::{Made, ORIGIN, end},
    verdict::{Given, verdict},
};

/// What is done to the lines of an export.
type Change<'a> = &'a dyn Fn(&mut Vec<String>);

impl Made {
    /// Whether an export fits on its own word.
    async fn fits(&self, lines: &[String]) -> bool {
        verdict("export", &self.export(lines), Given::default())
            .await
            .0
    }

    /// Whether a proof does.
    async fn holds(&self, proof: &Value) -> bool {
        let file = self.file("proof.json", proof.to_string().as_bytes());
        verdict("proof", &file, Given::default()).await.0
    }
}

#[tokio::test]
async fn both_find_that_a_good_export_fits() {
    for size in [1, 2, 3, 7, 8, 255, 256, 257, 1000] {
        let made = Made::of(size);
        assert!(made.fits(&made.lines()).await, "{size}");
    }
    let made = Made::of(20);
    let mut lines = made.lines();
    for index in 0..7 {
        let hash = leaf_hash(&made.leaves[index]);
        lines[index + 1] = format!("{{\"index\":{index},\"leaf_hash\":\"{hash}\"}}");
    }
    assert!(made.fits(&lines).await, "bodies that retention has dropped");
}

#[tokio::test]
async fn both_find_each_way_in_which_an_export_was_tampered_with() {
    let made = Made::of(20);
    let other = made.signed("example.org/audit/1", 20, made.root(20));
    let beyond = made.signed(ORIGIN, 21, made.root(20));
    let wrong = made.signed(ORIGIN, 20, made.root(19));
    let shorter = made.checkpoint(19);
    let hash = leaf_hash(b"another");
    let changes: &[(&str, Change<'_>)] = &[
        ("changed", &|lines| {
            lines[9] = lines[9].replace("denied", "ok");
        }),
        ("deleted", &|lines| drop(lines.remove(9))),
        ("deleted and closed up", &|lines| {
            lines.remove(9);
            renumber(lines);
        }),
        ("inserted", &|lines| {
            lines.insert(9, lines[8].clone());
            renumber(lines);
        }),
        ("twice", &|lines| lines.insert(9, lines[8].clone())),
        ("reordered", &|lines| lines.swap(9, 10)),
        ("reordered and renumbered", &|lines| {
            lines.swap(9, 10);
            renumber(lines);
        }),
        ("the last is gone", &|lines| drop(lines.remove(20))),
        ("the end is gone", &|lines| lines.truncate(15)),
        ("the checkpoint is gone", &|lines| drop(lines.pop())),
        ("the name is gone", &|lines| drop(lines.remove(0))),
        ("nothing is left", &|lines| lines.clear()),
        ("another hash", &|lines| {
            lines[9] = format!("{{\"index\":8,\"leaf_hash\":\"{hash}\"}}");
        }),
        ("another log", &|lines| {
            lines[0] = lines[0].replace("0f0e", "0f0f");
        }),
        ("another log's checkpoint", &|lines| lines[21] = end(&other)),
        ("a larger checkpoint", &|lines| lines[21] = end(&beyond)),
        ("a smaller checkpoint", &|lines| lines[21] = end(&shorter)),
        ("another root", &|lines| lines[21] = end(&wrong)),
        ("another size in it", &|lines| {
            lines[21] = lines[21].replace("\\n20\\n", "\\n19\\n");
        }),
        ("no signature", &|lines| {
            let cut = lines[21].find("\\n\\n").unwrap();
            lines[21].replace_range(cut.., "\\n\\n\"}");
        }),
        ("more after the end", &|lines| lines.push(lines[20].clone())),
        ("a blank line", &|lines| lines.insert(9, String::new())),
        ("written with blanks", &|lines| {
            lines[9] = lines[9].replacen(':', ": ", 1);
        }),
        ("written with another escape", &|lines| {
            lines[9] = lines[9].replace('é', "\\u00e9");
        }),
        ("a name twice", &|lines| {
            lines[9] = lines[9].replacen('{', "{\"index\":8,", 1);
        }),
        ("a number as text", &|lines| {
            lines[9] = lines[9].replacen(":8,", ":\"8\",", 1);
        }),
        ("not JSON", &|lines| lines[9].truncate(40)),
        ("no keys", &|lines| {
            let keys = lines[0].find("[\"").unwrap();
            lines[0].replace_range(keys.., "[]}}");
        }),
    ];
    for (what, change) in changes {
        let mut lines = made.lines();
        change(&mut lines);
        assert!(!made.fits(&lines).await, "{what}");
    }
}

/// Gives every line between the first and the last its place.
fn renumber(lines: &mut [String]) {
    let last = lines.len() - 1;
    for (index, line) in lines[1..last].iter_mut().enumerate() {
        let rest = line.find(",\"entry\"").unwrap();
        line.replace_range(..rest, &format!("{{\"index\":{index}"));
    }
}

#[tokio::test]
async fn both_say_the_same_of_any_single_byte() {
    let made = Made::of(3);
    let good = made.lines().join("\n") + "\n";
    let bytes = good.as_bytes();
    let (mut at, mut fitting) = (0, 0);
    for round in 0_u8.. {
        // a step that shares no factor with anything in there
        at += 37;
        if at >= bytes.len() {
            break;
        }
        let mut damaged = bytes.to_vec();
        match round % 4 {
            0 => damaged[at] ^= 1,
            1 => drop(damaged.remove(at)),
            2 => damaged.insert(at, b'"'),
            _ => damaged.truncate(at),
        }
        let file = made.file("damaged.jsonl", &damaged);
        let (fits, told) = verdict("export", &file, Given::default()).await;
        let in_header = good.lines().next().unwrap().len();
        let only_told = in_header - made.key().len() - 5;
        // epoch and time of the beginning are what the file says and no more
        assert!(!fits || at < only_told, "byte {at}: {}", told.stdout);
        fitting += u32::from(fits);
    }
    assert!(at > 1500 && fitting < 4);
}

#[tokio::test]
async fn a_log_that_was_made_anew_is_found_by_what_was_kept_outside() {
    let made = Made::of(20);
    let (key, kept) = (
        made.key(),
        made.file("kept", made.checkpoint(12).as_bytes()),
    );
    let last = made.file("last", made.checkpoint(20).as_bytes());
    let all = |checkpoint, key| Given { checkpoint, key };
    let good = made.export(&made.lines());
    for given in [
        all(None, Some(&*key)),
        all(Some(&*kept), None),
        all(Some(&*last), Some(&*key)),
    ] {
        assert!(verdict("export", &good, given).await.0);
    }
    let (_, told) = verdict("export", &good, Given::default()).await;
    assert!(told.stderr.contains("prove nothing by themselves"));
    let (_, told) = verdict("export", &good, all(Some(&*kept), Some(&*key))).await;
    assert_eq!(told.stderr, "");
    assert!(told.stdout.contains("the outside checkpoint (size 12)"));

    // by whoever has a key of his own
    let mut forged = Made::of(20);
    forged.leaves[3] = forged.leaves[4].clone();
    let file = forged.export(&forged.lines());
    assert!(verdict("export", &file, Given::default()).await.0);
    assert!(!verdict("export", &file, all(None, Some(&*key))).await.0);
    assert!(!verdict("export", &file, all(Some(&*kept), None)).await.0);
    assert!(
        !verdict("export", &file, all(Some(&*kept), Some(&*key)))
            .await
            .0
    );

    // by whoever has the log's key
    let mut resigned = made;
    resigned.leaves[3] = resigned.leaves[4].clone();
    let file = resigned.export(&resigned.lines());
    assert!(verdict("export", &file, all(None, Some(&*key))).await.0);
    let (fits, told) = verdict("export", &file, all(Some(&*kept), Some(&*key))).await;
    assert!(
        !fits && told.stdout.contains("entries 0 to 11 "),
        "{}",
        told.stdout
    );

    // and the tail cut together with its checkpoints
    let mut cut = resigned;
    cut.leaves.truncate(11);
    let file = cut.export(&cut.lines());
    assert!(verdict("export", &file, all(None, Some(&*key))).await.0);
    let (fits, told) = verdict("export", &file, all(Some(&*kept), Some(&*key))).await;
    assert!(!fits && told.stdout.contains("is of 12 entries, there are 11"));
}

#[tokio::test]
async fn a_checkpoint_from_outside_stands_for_a_missing_end() {
    let made = Made::of(9);
    let mut lines = made.lines();
    lines.pop();
    let file = made.export(&lines);
    for (size, fits) in [(9, true), (8, false)] {
        let kept = made.file("kept", made.checkpoint(size).as_bytes());
        let given = Given {
            checkpoint: Some(&kept),
            key: None,
        };
        assert_eq!(verdict("export", &file, given).await.0, fits, "{size}");
    }
}

#[tokio::test]
async fn both_find_that_a_proof_of_inclusion_holds_until_something_in_it_is_changed() {
    let made = Made::of(300);
    for index in [0, 1, 255, 256, 299] {
        assert!(made.holds(&made.inclusion(index)).await, "{index}");
    }
    let good = made.inclusion(17);
    let mut without_body = good.clone();
    without_body.as_object_mut().unwrap().remove("entry");
    assert!(!made.holds(&without_body).await, "a leaf without its entry");
    without_body.as_object_mut().unwrap().remove("leaf");
    assert!(made.holds(&without_body).await, "retention has dropped it");
    let other = made.inclusion(18);
    let mut outcome = good["entry"].clone();
    outcome["outcome"] = json!("ok");
    for (field, value) in [
        ("index", json!(18)),
        ("index", json!(300)),
        ("index", json!(-1)),
        ("entry", outcome),
        ("leaf", other["leaf"].clone()),
        ("leaf_hash", other["leaf_hash"].clone()),
        ("path", other["path"].clone()),
        ("path", json!([])),
        ("path", json!(["x"])),
        ("checkpoint", json!(made.checkpoint(299))),
        ("checkpoint", json!(made.checkpoint(10))),
        ("checkpoint", json!("")),
        ("origin", json!("example.org/audit/1")),
        ("verifier_keys", json!([])),
        ("proof", json!("consistency")),
        ("proof", json!("none")),
    ] {
        let mut proof = good.clone();
        proof[field] = value.clone();
        assert!(!made.holds(&proof).await, "{field}: {value}");
    }
}

#[tokio::test]
async fn both_find_that_a_proof_of_consistency_holds_until_something_in_it_is_changed() {
    let made = Made::of(300);
    for (from, to) in [(1, 2), (1, 300), (255, 256), (300, 300), (17, 257)] {
        assert!(made.holds(&made.consistency(from, to)).await, "{from} {to}");
    }
    let good = made.consistency(17, 257);
    let root = made.root(18).to_string();
    for (field, value) in [
        ("from_size", json!(18)),
        ("from_size", json!(0)),
        ("from_size", json!(258)),
        ("from_root", json!(root)),
        ("to_size", json!(256)),
        ("to_size", json!(301)),
        ("to_root", json!(root)),
        ("path", json!([])),
        ("path_to_checkpoint", json!([])),
        ("checkpoint", json!(made.checkpoint(299))),
    ] {
        let mut proof = good.clone();
        proof[field] = value.clone();
        assert!(!made.holds(&proof).await, "{field}: {value}");
    }
    let file = made.file("proof.json", good.to_string().as_bytes());
    for (size, holds) in [(17, true), (257, true), (300, true), (18, false)] {
        let kept = made.file("kept", made.checkpoint(size).as_bytes());
        let given = Given {
            checkpoint: Some(&kept),
            key: None,
        };
        assert_eq!(verdict("proof", &file, given).await.0, holds, "{size}");
    }
    let another = made.signed(ORIGIN, 17, made.root(18));
    let kept = made.file("kept", another.as_bytes());
    let given = Given {
        checkpoint: Some(&kept),
        key: None,
    };
    assert!(!verdict("proof", &file, given).await.0);
}
