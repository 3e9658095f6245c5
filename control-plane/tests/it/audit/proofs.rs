//! Proofs, for who has no access to the database.

use authguardian_proto::{
    checkpoint::Checkpoint,
    merkle::{self, leaf_hash},
};
use control_plane::audit::proof;

use super::act;
use crate::{records::fault, rig::Rig};

#[tokio::test]
async fn every_entry_is_proved_to_be_under_the_newest_checkpoint() {
    let rig = Rig::open().await;
    rig.append((0..700).map(act)).await;
    let (log, signed) = rig.signed().await;
    let keys = rig.keys_of(&log.origin).await;
    let mut connection = rig.app.db.read().await.unwrap();
    for index in (0..signed.head.size.unsigned_abs()).step_by(13) {
        let proved = proof::inclusion(&mut connection, "", index).await.unwrap();
        let head = Checkpoint::open(&proved.signed.note, &keys).unwrap();
        let leaf = proved.record.unwrap().leaf().to_bytes();
        assert_eq!(leaf_hash(&leaf), proved.leaf_hash);
        let head = (head.size, head.root);
        merkle::verify_inclusion(&proved.path, head, index, proved.leaf_hash).unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_proved_is_refused_by_its_field() {
    let rig = Rig::open().await;
    rig.append([act(1)]).await;
    let (_, signed) = rig.signed().await;
    let size = signed.head.size.unsigned_abs();
    let mut connection = rig.app.db.read().await.unwrap();
    let refused = fault(proof::inclusion(&mut connection, "", size).await);
    assert_eq!(refused.0, "KEY_NOT_FOUND");
    let refused = fault(proof::inclusion(&mut connection, "example.org/audit/other", 0).await);
    assert_eq!(refused, ("INVALID_ARGUMENT".into(), "origin".into()));
    for (sizes, field) in [
        ((0, 0), "from_size"),
        ((size, size - 1), "from_size"),
        ((size + 1, 0), "from_size"),
        ((1, size + 1), "to_size"),
        ((1, u64::MAX), "to_size"),
    ] {
        let refused = fault(proof::consistency(&mut connection, "", sizes).await);
        assert_eq!(
            refused,
            ("INVALID_ARGUMENT".into(), field.into()),
            "{sizes:?}"
        );
    }
}
