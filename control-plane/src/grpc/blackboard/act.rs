//! Acts, as messages name them.

use authguardian_proto::{
    blackboard::v1::{
        Compare as PbCompare, DeleteRequest, LockHeld as PbLockHeld, LockRequest,
        Operation as PbOperation, PutRequest, TransactRequest, Write, compare::Condition as Wanted,
        lock_request::Act as PbAct, operation::Action,
    },
    board::Key,
    ids::BoardName,
};

use crate::{
    blackboard::{Act, Compare, Condition, Deed, LockAct, LockHeld, Operation, Ttl, Value},
    error::{Error, Result},
    grpc::convert::parse,
};

pub(super) fn put(message: PutRequest) -> Result<(BoardName, Act)> {
    let board = parse("board", &message.board)?;
    let act = Act::Deed {
        key: parse("key", &message.key)?,
        deed: write("", &message.value, message.ttl_seconds)?,
        if_revision: revision("if_revision", message.if_revision)?,
        if_lock: held(message.if_lock)?,
    };
    Ok((board, act))
}

pub(super) fn delete(message: DeleteRequest) -> Result<(BoardName, Act)> {
    let board = parse("board", &message.board)?;
    let act = Act::Deed {
        key: parse("key", &message.key)?,
        deed: Deed::Delete,
        if_revision: revision("if_revision", message.if_revision)?,
        if_lock: held(message.if_lock)?,
    };
    Ok((board, act))
}

pub(super) fn transact(message: TransactRequest) -> Result<(BoardName, Act)> {
    let board = parse("board", &message.board)?;
    let compare = message.compare.into_iter().enumerate();
    let act = Act::Transact {
        compare: compare
            .map(|(at, one)| compared(&format!("compare[{at}]"), one))
            .collect::<Result<_>>()?,
        then: operations("then", message.then)?,
        otherwise: operations("else", message.r#else)?,
    };
    Ok((board, act))
}

pub(super) fn lock(message: &LockRequest) -> Result<(BoardName, Act)> {
    let board = parse("board", &message.board)?;
    let key = parse("key", &message.key)?;
    let fencing = revision("fencing_revision", message.fencing_revision)?;
    let ttl = || Ttl::of_lock("ttl_seconds", message.ttl_seconds);
    let act = match PbAct::try_from(message.act) {
        Ok(PbAct::Acquire) => LockAct::Acquire(ttl()?),
        Ok(PbAct::Renew) => LockAct::Renew {
            ttl: ttl()?,
            fencing,
        },
        Ok(PbAct::Release) => LockAct::Release { fencing },
        Ok(PbAct::Unspecified) | Err(_) => {
            return Err(Error::invalid("act", "expected acquire, renew or release"));
        }
    };
    Ok((board, Act::Lock { key, act }))
}

fn operations(list: &str, messages: Vec<PbOperation>) -> Result<Vec<Operation>> {
    let messages = messages.into_iter().enumerate();
    messages
        .map(|(at, message)| operation(&format!("{list}[{at}]"), message))
        .collect()
}

fn operation(field: &str, message: PbOperation) -> Result<Operation> {
    let key = key_of(field, &message.key)?;
    let deed = match message.action {
        Some(Action::Put(Write { value, ttl_seconds })) => {
            Some(write(&format!("{field}."), &value, ttl_seconds)?)
        }
        Some(Action::Delete(_)) => Some(Deed::Delete),
        Some(Action::Get(_)) => None,
        None => return Err(Error::invalid(field, "expected put, delete or get")),
    };
    Ok(Operation { key, deed })
}

fn compared(field: &str, message: PbCompare) -> Result<Compare> {
    let key = key_of(field, &message.key)?;
    let number = |name: &str, number| known(&format!("{field}.{name}"), number);
    let condition = match message.condition {
        Some(Wanted::Revision(revision)) => Condition::Revision(number("revision", revision)?),
        Some(Wanted::FencingRevision(revision)) => {
            Condition::Fencing(number("fencing_revision", revision)?)
        }
        Some(Wanted::Value(text)) => {
            Condition::Value(Value::parse(&format!("{field}.value"), &text)?)
        }
        Some(Wanted::Exists(exists)) => Condition::Exists(exists),
        None => {
            let expected = "expected revision, fencing_revision, value or exists";
            return Err(Error::invalid(field, expected));
        }
    };
    Ok(Compare { key, condition })
}

fn write(prefix: &str, value: &str, ttl: Option<u64>) -> Result<Deed> {
    Ok(Deed::Put {
        value: Value::parse(&format!("{prefix}value"), value)?,
        ttl: ttl
            .map(|seconds| Ttl::of_entry(&format!("{prefix}ttl_seconds"), seconds))
            .transpose()?,
    })
}

fn held(message: Option<PbLockHeld>) -> Result<Option<LockHeld>> {
    message
        .map(|lock| {
            Ok(LockHeld {
                key: key_of("if_lock", &lock.key)?,
                fencing_revision: known("if_lock.fencing_revision", lock.fencing_revision)?,
            })
        })
        .transpose()
}

fn key_of(field: &str, text: &str) -> Result<Key> {
    parse(&format!("{field}.key"), text)
}

fn revision(field: &str, number: Option<u64>) -> Result<Option<i64>> {
    number.map(|number| known(field, number)).transpose()
}

fn known(field: &str, number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::invalid(field, "expected a number below 2^63"))
}
