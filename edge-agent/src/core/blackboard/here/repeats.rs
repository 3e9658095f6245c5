//! What came of writes to the replica that had a request id, for whoever asks
//! again. They are kept in memory: after a crash a repeat is another write.

use std::{
    collections::{HashMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use authguardian_proto::{
    ids::ApiKeyId,
    reason::{Problem, Reason},
};

use crate::replica::Acknowledged;

/// Most of them that are kept.
const MOST: usize = 10_000;

/// Who asked, and under which id.
type Asked = (ApiKeyId, String);

/// What was done; `None`: there was nothing to delete.
type Done = Option<Acknowledged>;

/// The newest of them.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    done: HashMap<Asked, (u64, Done)>,
    order: VecDeque<Asked>,
}

/// What a request is, to tell it from another of the same id.
pub(super) fn digest(request: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.hash(&mut hasher);
    hasher.finish()
}

impl Repeats {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came of it before.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` where another request had its id.
    pub(super) fn find(
        &self,
        who: ApiKeyId,
        request_id: &str,
        digest: u64,
    ) -> Result<Option<Done>, Problem> {
        let kept = self.kept();
        match kept.done.get(&(who, request_id.to_owned())) {
            None => Ok(None),
            Some((known, done)) if *known == digest => Ok(Some(done.clone())),
            Some(_) => Err(Problem::new(
                Reason::RequestIdReused,
                format!("request id `{request_id}` was used for another request"),
            )
            .at("request_id")),
        }
    }

    /// Keeps what came of it.
    pub(super) fn keep(&self, who: ApiKeyId, request_id: &str, digest: u64, done: Done) {
        let mut kept = self.kept();
        let asked = (who, request_id.to_owned());
        if kept.done.insert(asked.clone(), (digest, done)).is_none() {
            kept.order.push_back(asked);
        }
        if kept.order.len() > MOST
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.done.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_told_what_came_of_it_and_another_request_is_refused() {
        let repeats = Repeats::default();
        let who: ApiKeyId = "apk_0000000000000000000008".parse().unwrap();
        let (one, other) = (digest(("put", "a", 1)), digest(("put", "a", 2)));
        assert_eq!(repeats.find(who, "r-1", one).unwrap(), None);
        repeats.keep(who, "r-1", one, None);
        assert_eq!(repeats.find(who, "r-1", one).unwrap(), Some(None));
        let refused = repeats.find(who, "r-1", other).unwrap_err();
        assert_eq!(refused.reason, Reason::RequestIdReused);
        for number in 0..MOST {
            repeats.keep(who, &format!("n-{number}"), one, None);
        }
        assert_eq!(repeats.find(who, "r-1", other).unwrap(), None, "the oldest");
        assert_eq!(repeats.kept().done.len(), MOST);
    }
}
