//! Boards at the control plane: what can be done to them, and who may.

mod access;
mod boards;
mod locks;
mod replicas;
mod transactions;
mod verbs;
mod watches;
mod writes;

use std::sync::Arc;

use authguardian_proto::{
    board::{Key, Level},
    ids::BoardName,
};
use control_plane::{
    blackboard::{
        Act, Board, BoardUpdate, Deed, Entry, Listed, LockAct, NewBoard, Outcome, Range, Read,
        ReadFrom, Ttl, Value, Who, Written,
    },
    error::Result,
    identity::Session,
};

use crate::rig::{Rig, admin, caller};

pub(crate) fn key(text: &str) -> Key {
    text.parse().unwrap()
}

pub(crate) fn board(text: &str) -> BoardName {
    text.parse().unwrap()
}

pub(crate) fn json(text: &str) -> Value {
    Value::parse("value", text).unwrap()
}

pub(crate) fn write(at: &str, value: &str) -> Act {
    Act::Deed {
        key: key(at),
        deed: Deed::Put {
            value: json(value),
            ttl: None,
        },
        if_revision: None,
        if_lock: None,
    }
}

pub(crate) fn write_if(at: &str, value: &str, revision: i64) -> Act {
    Act::Deed {
        key: key(at),
        deed: Deed::Put {
            value: json(value),
            ttl: None,
        },
        if_revision: Some(revision),
        if_lock: None,
    }
}

pub(crate) fn write_for(at: &str, value: &str, seconds: u64) -> Act {
    Act::Deed {
        key: key(at),
        deed: Deed::Put {
            value: json(value),
            ttl: Some(Ttl::of_entry("ttl_seconds", seconds).unwrap()),
        },
        if_revision: None,
        if_lock: None,
    }
}

pub(crate) fn delete(at: &str) -> Act {
    Act::Deed {
        key: key(at),
        deed: Deed::Delete,
        if_revision: None,
        if_lock: None,
    }
}

pub(crate) fn acquire(at: &str, seconds: u64) -> Act {
    let ttl = Ttl::of_lock("ttl_seconds", seconds).unwrap();
    Act::Lock {
        key: key(at),
        act: LockAct::Acquire(ttl),
    }
}

/// Whether a lock is held by the caller, its fencing revision and its holder.
pub(crate) fn lock_of(written: &Written) -> (bool, i64, &str) {
    match &written.outcome {
        Outcome::Lock {
            held,
            fencing_revision,
            holder,
            ..
        } => (*held, *fencing_revision, holder),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn who(session: &Arc<Session>) -> Who {
    Who::agent(Arc::clone(session), None).unwrap()
}

impl Rig {
    pub(crate) async fn write(
        &self,
        session: &Arc<Session>,
        on: &str,
        act: Act,
    ) -> Result<Written> {
        self.app
            .blackboard
            .write(caller(session), who(session), board(on), act)
            .await
    }

    pub(crate) async fn read(&self, session: &Arc<Session>, on: &str, at: &str) -> Result<Read> {
        self.app
            .blackboard
            .get(who(session), board(on), key(at), ReadFrom::default())
            .await
    }

    pub(crate) async fn list(&self, session: &Arc<Session>, on: &str, prefix: &str) -> Listed {
        let range = Range {
            prefix: prefix.to_owned(),
            after: None,
            keys_only: false,
            limit: 1000,
        };
        self.app
            .blackboard
            .list(who(session), board(on), range, ReadFrom::default())
            .await
            .unwrap()
    }

    pub(crate) async fn new_board(&self, name: &str, level: Level, terms: BoardUpdate) -> Board {
        let new = NewBoard {
            name: board(name),
            level,
            terms,
        };
        self.app.blackboard.create(admin(), new).await.unwrap()
    }
}

pub(crate) fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}
