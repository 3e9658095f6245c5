//! What is taken and what is refused.

use authguardian_proto::audit::v1::WitnessCheckpointResponse;

use super::{
    super::judge::{Verdict, judge},
    FIRST, Log, SECOND, open, refused, size, take,
};

/// What is said of an answer to whom has kept this log.
fn kind(kept: Option<&Log>, told: &WitnessCheckpointResponse) -> String {
    let kept = kept.map(Log::head);
    match judge(kept.as_ref(), |origin| origin == "ended", told) {
        Ok(Verdict::Nothing) => "nothing".to_owned(),
        Ok(Verdict::Take(told, key)) => {
            assert_eq!(key.name(), told.origin);
            format!("take {}", told.size)
        }
        Ok(Verdict::GoOver(told, _, end)) => {
            format!(
                "go over to {} from {} {}",
                told.size, end.size, end.is_lossy
            )
        }
        Err(refusal) => refusal.kind().to_owned(),
    }
}

#[test]
fn a_log_that_has_grown_is_taken_and_the_same_one_is_left() {
    let log = Log::new(FIRST).grow("a", 5);
    let first = log.answer(None);
    assert_eq!(kind(None, &first), "take 5");
    assert_eq!(kind(Some(&log), &log.answer(Some(5))), "nothing");
    assert_eq!(kind(None, &WitnessCheckpointResponse::default()), "nothing");
    let kept = Log::new(FIRST).grow("a", 5);
    let grown = log.grow("b", 700);
    assert_eq!(kind(Some(&kept), &grown.answer(Some(5))), "take 705");
}

#[test]
fn a_key_that_is_told_later_counts_and_others_beside_it_do_no_harm() {
    let (kept, rotated) = (Log::new(FIRST).grow("a", 5), Log::new(FIRST).grow("a", 9));
    let mut told = rotated.answer(Some(5));
    let old = kept.signer.verifier_key(FIRST).to_string();
    told.verifier_keys.insert(0, old);
    assert_eq!(kind(Some(&kept), &told), "take 9");
}

#[test]
fn what_is_shorter_is_cut() {
    let kept = Log::new(FIRST).grow("a", 5);
    let cut = Log::new(FIRST).grow("a", 4).answer(None);
    assert_eq!(kind(Some(&kept), &cut), "cut");
    let all = WitnessCheckpointResponse::default();
    assert_eq!(kind(Some(&kept), &all), "cut");
}

#[test]
fn another_root_or_a_proof_that_does_not_prove_is_a_fork() {
    let kept = Log::new(FIRST).grow("a", 5);
    let other = Log::new(FIRST).grow("b", 5);
    assert_eq!(kind(Some(&kept), &other.answer(Some(5))), "fork");
    let other = other.grow("b", 4);
    assert_eq!(kind(Some(&kept), &other.answer(Some(5))), "fork");
    let grown = Log::new(FIRST).grow("a", 9);
    for spoil in [
        (|told| told.proof.clear()) as fn(&mut WitnessCheckpointResponse),
        |told| told.proof[0][0] ^= 1,
        |told| told.proof.push(vec![0; 32]),
        |told| told.proof.resize(1000, vec![0; 32]),
    ] {
        let mut told = grown.answer(Some(5));
        spoil(&mut told);
        assert_eq!(kind(Some(&kept), &told), "fork");
    }
}

#[test]
fn what_no_key_of_the_log_has_signed_does_not_count() {
    let kept = Log::new(FIRST).grow("a", 5);
    let grown = Log::new(FIRST).grow("a", 9);
    let changed = |told: &mut WitnessCheckpointResponse| {
        told.checkpoint = told.checkpoint.replacen("\n9\n", "\n10\n", 1);
    };
    for spoil in [
        changed as fn(&mut WitnessCheckpointResponse),
        |told| told.verifier_keys.clear(),
        |told| {
            let other = Log::new(FIRST);
            told.verifier_keys = vec![other.signer.verifier_key(FIRST).to_string()];
        },
        |told| told.checkpoint = "not a note".to_owned(),
        |told| told.checkpoint.truncate(told.checkpoint.len() - 9),
    ] {
        for kept in [None, Some(&kept)] {
            let mut told = grown.answer(Some(5));
            spoil(&mut told);
            assert_eq!(kind(kept, &told), "signature", "{}", told.checkpoint);
        }
    }
}

#[test]
fn a_key_of_another_log_does_not_sign_for_this_one() {
    let log = Log::new(FIRST).grow("a", 5);
    let mut told = log.answer(None);
    told.verifier_keys = vec![log.signer.verifier_key(SECOND).to_string()];
    assert_eq!(kind(None, &told), "signature");
}

#[test]
fn what_is_not_of_its_form_is_refused() {
    let kept = Log::new(FIRST).grow("a", 5);
    let next = kept.beside(SECOND).grow("n", 1);
    for spoil in [
        (|told| told.verifier_keys[0].push('+')) as fn(&mut WitnessCheckpointResponse),
        |told| told.ended.as_mut().unwrap().root.truncate(31),
        |told| told.ended.as_mut().unwrap().next_origin.clear(),
        |told| told.ended.as_mut().unwrap().proof = vec![vec![1; 31]],
    ] {
        let mut told = kept.gone_over(5, &next);
        spoil(&mut told);
        assert_eq!(kind(Some(&kept), &told), "malformed");
    }
    let mut told = Log::new(FIRST).grow("a", 9).answer(Some(5));
    told.proof[0].push(0);
    assert_eq!(kind(Some(&kept), &told), "malformed");
    let empty = Log::new(FIRST);
    assert_eq!(kind(None, &empty.answer(None)), "malformed");
    let mut goes_on = kept.answer(Some(5));
    goes_on.ended = Some(kept.ended(5, &next));
    assert_eq!(kind(Some(&kept), &goes_on), "malformed");
}

#[test]
fn another_log_is_refused_unless_the_one_before_has_ended() {
    let kept = Log::new(FIRST).grow("a", 5);
    let next = kept.beside(SECOND).grow("n", 2);
    assert_eq!(kind(Some(&kept), &next.answer(None)), "other_log");
    let told = kept.gone_over(5, &next);
    assert_eq!(kind(Some(&kept), &told), "go over to 2 from 5 false");
    let back = kept.beside("ended").grow("e", 9);
    assert_eq!(kind(Some(&kept), &kept.gone_over(5, &back)), "ended_log");
    assert_eq!(kind(None, &back.answer(None)), "ended_log");
}

#[test]
fn how_a_log_has_ended_is_proved_or_entries_are_lost() {
    let at_five = Log::new(FIRST).grow("a", 5);
    let next = at_five.beside(SECOND).grow("n", 1);
    let at_nine = Log::new(FIRST).grow("a", 9);
    let told = at_nine.gone_over(5, &next);
    assert_eq!(kind(Some(&at_five), &told), "go over to 1 from 9 false");
    let told = at_five.gone_over(9, &next);
    assert_eq!(kind(Some(&at_nine), &told), "go over to 1 from 5 true");
    let forked = Log::new(FIRST).grow("b", 9).gone_over(5, &next);
    assert_eq!(kind(Some(&at_five), &forked), "fork");
    // the log after it has no checkpoint yet
    let begun = WitnessCheckpointResponse {
        ended: Some(at_nine.ended(5, &next)),
        ..WitnessCheckpointResponse::default()
    };
    assert_eq!(kind(Some(&at_five), &begun), "nothing");
}

#[tokio::test]
async fn what_is_refused_is_told_once_of_its_kind_and_changes_nothing_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path());
    let log = Log::new(FIRST).grow("a", 9);
    assert_eq!(take(&witness, log.answer(None)).await, "");
    let before = witness.request();
    let cut = log.beside(FIRST).grow("a", 4);
    assert_eq!(take(&witness, cut.answer(None)).await, "STALE");
    // the cut log grows, with what it was told of this
    let cut = cut.grow("a", 1);
    assert_eq!(take(&witness, cut.answer(None)).await, "");
    assert_eq!(refused(&witness).as_deref(), Some("cut"));
    let fork = cut.grow("b", 9);
    assert_eq!(
        take(&witness, fork.answer(Some(9))).await,
        "REVISION_CONFLICT"
    );
    assert_eq!(take(&witness, fork.answer(Some(9))).await, "");
    assert_eq!((witness.request(), size(&witness)), (before, Some(9)));

    let disowned = witness.disowned().await.unwrap();
    assert_eq!(disowned.reason.as_str(), "SIGNATURE_INVALID");
    assert_eq!(witness.disowned().await, None);

    let whole = log.grow("a", 3);
    assert_eq!(take(&witness, whole.answer(Some(9))).await, "");
    assert_eq!((refused(&witness), size(&witness)), (None, Some(12)));
}
