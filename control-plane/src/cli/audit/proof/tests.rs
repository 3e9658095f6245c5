use authguardian_proto::{
    audit::v1::{ProveConsistencyResponse, ProveInclusionResponse},
    merkle::leaf_hash,
};
use serde_json::{Value, json};

use super::*;
use crate::cli::audit::fixture::{ORIGIN, TestLog, signer};

fn keys(log: &TestLog) -> (String, Vec<String>) {
    (ORIGIN.to_owned(), log.header().verifier_keys)
}

fn inclusion(log: &TestLog, index: u64, has_body: bool) -> Value {
    let leaf = log.leaves[usize::try_from(index).unwrap()].clone();
    let found = ProveInclusionResponse {
        entry: None,
        leaf_hash: leaf_hash(&leaf).0.to_vec(),
        leaf: if has_body { leaf } else { Vec::new() },
        path: log.inclusion(index, log.size()),
        checkpoint: log.checkpoint(log.size()),
    };
    serde_json::to_value(Inclusion::of(index, found, keys(log)).unwrap()).unwrap()
}

fn consistency(log: &TestLog, from: u64, to: u64) -> Value {
    let found = ProveConsistencyResponse {
        from_root: log.root(from).0.to_vec(),
        to_size: to,
        to_root: log.root(to).0.to_vec(),
        proof: log.consistency(from, to),
        checkpoint: log.checkpoint(log.size()),
    };
    let onward = log.consistency(to, log.size());
    serde_json::to_value(Consistency::of(from, found, &onward, keys(log)).unwrap()).unwrap()
}

fn of(proof: &Value, outside: Option<&str>, given: &[VerifierKey]) -> Result<Proved, String> {
    // as whoever has reformatted it
    let text = serde_json::to_string_pretty(proof).unwrap();
    check(&text, outside, given).map_err(|misfit| misfit.to_string())
}

#[test]
fn every_entry_of_a_log_is_proved_with_and_without_its_body() {
    let log = TestLog::of(300);
    for index in [0, 1, 127, 255, 256, 299] {
        for has_body in [true, false] {
            let proof = inclusion(&log, index, has_body);
            assert_eq!(proof.get("entry").is_some(), has_body);
            let proved = of(&proof, None, &[]).unwrap();
            assert_eq!(proved.sizes, [300]);
            assert_eq!(proved.keys_from, KeysFrom::File);
        }
    }
}

#[test]
fn a_proof_of_inclusion_that_was_changed_does_not_hold() {
    let log = TestLog::of(300);
    let good = inclusion(&log, 17, true);
    let other = inclusion(&log, 18, true);
    let changes = [
        ("index", json!(18), "does not come to the root"),
        ("index", json!(300), "do not fit each other"),
        ("entry", other["entry"].clone(), "`entry` is not"),
        ("leaf", other["leaf"].clone(), "`leaf_hash` is not"),
        (
            "leaf_hash",
            other["leaf_hash"].clone(),
            "`leaf_hash` is not",
        ),
        ("leaf", Value::Null, "go together"),
        ("path", other["path"].clone(), "does not come to the root"),
        ("path", json!([]), "does not come to the root"),
        ("path", json!(["x"]), "not 32 bytes"),
        (
            "checkpoint",
            log.checkpoint(299).into(),
            "does not come to the root",
        ),
        (
            "checkpoint",
            log.checkpoint(17).into(),
            "do not fit each other",
        ),
        ("checkpoint", "".into(), "not a signed note"),
        ("origin", "example.org/audit/1".into(), "is of the log"),
        ("verifier_keys", json!([]), "none of the known keys"),
        ("verifier_keys", json!(["x"]), "expected a verifier key"),
        ("proof", json!("consistency"), "missing field"),
        ("proof", json!("nothing"), "not a proof"),
    ];
    for (field, value, words) in changes {
        let mut proof = good.clone();
        proof[field] = value;
        let error = of(&proof, None, &[]).unwrap_err();
        assert!(error.contains(words), "{field}: {error}");
    }
}

#[test]
fn any_two_sizes_are_shown_to_be_of_one_log() {
    let log = TestLog::of(600);
    for (from, to) in [
        (1, 2),
        (1, 600),
        (255, 256),
        (300, 600),
        (600, 600),
        (7, 513),
    ] {
        let proved = of(&consistency(&log, from, to), None, &[]).unwrap();
        assert_eq!(proved.sizes.first(), Some(&from));
        assert_eq!(proved.sizes.last(), Some(&600));
    }
}

#[test]
fn a_proof_of_consistency_that_was_changed_does_not_hold() {
    let log = TestLog::of(600);
    let good = consistency(&log, 7, 513);
    let root = log.root(8).to_string();
    for (field, value) in [
        ("from_size", json!(8)),
        ("from_size", json!(0)),
        ("from_size", json!(514)),
        ("from_root", json!(root)),
        ("to_size", json!(512)),
        ("to_size", json!(601)),
        ("to_root", json!(root)),
        ("path", json!([])),
        ("path_to_checkpoint", json!([])),
        ("checkpoint", log.checkpoint(599).into()),
    ] {
        let mut proof = good.clone();
        proof[field] = value;
        assert!(of(&proof, None, &[]).is_err(), "{field}");
    }
}

#[test]
fn an_outside_checkpoint_has_to_have_one_of_the_roots() {
    let log = TestLog::of(600);
    let proof = consistency(&log, 7, 513);
    for size in [7, 513, 600] {
        let proved = of(&proof, Some(&log.checkpoint(size)), &[]).unwrap();
        assert!(proved.outside_checkpoint);
    }
    let error = of(&proof, Some(&log.checkpoint(8)), &[]).unwrap_err();
    assert!(error.contains("says nothing"), "{error}");
    let another = log.signed(ORIGIN, 7, log.root(8));
    let error = of(&proof, Some(&another), &[]).unwrap_err();
    assert!(error.contains("the outside checkpoint has"), "{error}");
    let proof = inclusion(&log, 5, true);
    assert!(of(&proof, Some(&log.checkpoint(600)), &[]).is_ok());
    assert!(of(&proof, Some(&log.checkpoint(599)), &[]).is_err());
}

#[test]
fn keys_from_outside_go_before_those_in_the_proof() {
    let log = TestLog::of(5);
    let proof = inclusion(&log, 2, true);
    let own = [log.signer.verifier_key(ORIGIN)];
    assert_eq!(of(&proof, None, &own).unwrap().keys_from, KeysFrom::Given);
    let error = of(&proof, None, &[signer().verifier_key(ORIGIN)]).unwrap_err();
    assert!(error.contains("none of the known keys"), "{error}");
}
