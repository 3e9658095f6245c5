//! Forwarding one call: deadline, retries with the same request id, and an
//! honest word about calls whose reply was lost.

use std::{future::Future, time::Duration};

use authguardian_proto::{
    reason::{Problem, Reason},
    status::from_status,
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

use super::{Login, Upstream};
use crate::dial::{self, Channel};

/// For one try of one call.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);
/// For all tries of a call that changes something.
const DEADLINE: Duration = Duration::from_secs(10);
/// For the one try of a call whose caller can do without.
const GLANCE: Duration = Duration::from_secs(2);
/// Tries while nothing was done.
const UNSENT_TRIES: u32 = 3;
/// Between tries, doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a call does at the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it can be asked again at will.
    Read,
    /// Nothing, and the caller has a worse answer that must not come late.
    Glance,
    /// A change, made once per request id.
    Change,
}

impl Effect {
    /// For all tries.
    fn patience(self) -> Duration {
        match self {
            Self::Read | Self::Change => DEADLINE,
            Self::Glance => GLANCE,
        }
    }

    /// How often it is tried while nothing was done.
    fn tries(self) -> u32 {
        match self {
            Self::Read | Self::Change => UNSENT_TRIES,
            Self::Glance => 1,
        }
    }
}

/// What a failed try tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The control plane has said no; nothing was done.
    Refused(Problem),
    /// The session was refused; nothing was done.
    Session(Problem),
    /// No connection, or a control plane that cannot work now: nothing was done.
    Unsent(Problem),
    /// The reply was lost, or the control plane itself does not know.
    Unknown(Problem),
}

impl Upstream {
    /// Sends a message, with retries as its effect allows.
    pub(super) async fn forward<M, R, F, Fut>(
        &self,
        login: &Login,
        effect: Effect,
        message: M,
        send: F,
    ) -> Result<R, Problem>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + effect.patience();
        let mut plan = Plan::new(effect);
        loop {
            let mut request = Request::new(message.clone());
            request
                .metadata_mut()
                .insert("authorization", login.session().bearer.clone());
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = TRY_TIMEOUT.min(left);
            request.set_timeout(limit);
            // the request's own begins only when there is a connection
            let answer = tokio::time::timeout(limit, send(self.channel.clone(), request));
            let failure = match answer.await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => classify(&status),
                Err(_) => classify(&Status::deadline_exceeded("no answer in time")),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match plan.after(failure, left) {
                Next::GiveUp(problem) => return Err(problem),
                Next::LogInAgain => {
                    if let Err(problem) = self.log_in_again(login).await {
                        return Err(plan.given_up(problem));
                    }
                }
                Next::Pause(pause) => tokio::time::sleep(self.ambient.jittered(pause)).await,
            }
        }
    }
}

/// What to do after a failed try.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GiveUp(Problem),
    LogInAgain,
    Pause(Duration),
}

/// How far the tries of one call have come.
struct Plan {
    effect: Effect,
    tries: u32,
    pause: Duration,
    may_have_happened: bool,
    logged_in_again: bool,
}

impl Plan {
    fn new(effect: Effect) -> Self {
        Self {
            effect,
            tries: 0,
            pause: PAUSE_MIN,
            may_have_happened: false,
            logged_in_again: false,
        }
    }

    fn after(&mut self, failure: Failure, left: Duration) -> Next {
        self.tries += 1;
        let (problem, again) = match failure {
            Failure::Refused(problem) => return Next::GiveUp(self.given_up(problem)),
            Failure::Session(problem) if self.logged_in_again => {
                return Next::GiveUp(self.given_up(problem));
            }
            Failure::Session(_) => {
                self.logged_in_again = true;
                return Next::LogInAgain;
            }
            Failure::Unsent(problem) => (
                problem,
                self.may_have_happened || self.tries < self.effect.tries(),
            ),
            Failure::Unknown(problem) => {
                self.may_have_happened |= self.effect == Effect::Change;
                (
                    problem,
                    self.may_have_happened || self.tries < self.effect.tries(),
                )
            }
        };
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        // jitter lengthens a pause by a fifth at most
        if again && pause * 2 < left {
            return Next::Pause(pause);
        }
        Next::GiveUp(self.given_up(Problem {
            reason: Reason::Unavailable,
            ..problem
        }))
    }

    /// What the last try's problem means for the call. A refusal of the request
    /// itself is its answer, since a repeated request id gets the first outcome;
    /// one from before request ids are looked at is not.
    fn given_up(&self, problem: Problem) -> Problem {
        let unknown = problem.reason == Reason::OutcomeUnknown
            || (self.may_have_happened && problem.reason.precedes_request_ids());
        if !unknown {
            return problem;
        }
        Problem::new(
            Reason::OutcomeUnknown,
            "the reply was lost and the change may have been made; repeat with the same request id to learn it",
        )
    }
}

/// What the status of a failed try means.
pub(super) fn classify(status: &Status) -> Failure {
    let problem = from_status(status);
    if dial::dial_failure(status).is_some() {
        return Failure::Unsent(problem);
    }
    let ours = status
        .get_details_error_info()
        .is_some_and(|info| Reason::parse(&info.reason).is_some());
    if ours {
        return match problem.reason {
            Reason::SessionExpired | Reason::Unauthenticated => Failure::Session(problem),
            Reason::OutcomeUnknown => Failure::Unknown(problem),
            // it says so itself: nothing was done
            Reason::Unavailable => Failure::Unsent(problem),
            _ => Failure::Refused(problem),
        };
    }
    match status.code() {
        Code::Unauthenticated => Failure::Session(problem),
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::Unimplemented => Failure::Refused(problem),
        // everything else may stem from a broken connection
        _ => Failure::Unknown(Problem {
            reason: Reason::Unavailable,
            detail: "the control plane cannot be reached or did not answer in time".to_owned(),
            field: None,
            retry_after_seconds: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::status::to_status;

    use super::*;

    const LEFT: Duration = Duration::from_secs(9);

    fn problem(reason: Reason) -> Problem {
        Problem::new(reason, "x")
    }

    #[test]
    fn a_refusal_is_final_and_a_broken_stream_is_not() {
        let refused = classify(&to_status(&problem(Reason::AgentMismatch)));
        assert_eq!(refused, Failure::Refused(problem(Reason::AgentMismatch)));
        for status in [
            Status::internal("h2 protocol error"),
            Status::unknown("transport error"),
            Status::cancelled("timeout"),
        ] {
            assert!(
                matches!(classify(&status), Failure::Unknown(_)),
                "{status:?}"
            );
        }
        assert!(matches!(
            classify(&to_status(&problem(Reason::SessionExpired))),
            Failure::Session(_)
        ));
    }

    #[test]
    fn a_lost_reply_of_a_change_is_asked_for_until_the_deadline_and_then_unknown() {
        let mut plan = Plan::new(Effect::Change);
        let lost = || Failure::Unknown(problem(Reason::Unavailable));
        for _ in 0..8 {
            assert!(matches!(plan.after(lost(), LEFT), Next::Pause(_)));
        }
        let unsent = Failure::Unsent(problem(Reason::Unavailable));
        match plan.after(unsent, Duration::from_millis(1)) {
            Next::GiveUp(problem) => assert_eq!(problem.reason, Reason::OutcomeUnknown),
            next => panic!("{next:?}"),
        }
    }

    #[test]
    fn what_was_never_sent_is_unavailable_after_three_tries() {
        let mut plan = Plan::new(Effect::Change);
        let unsent = || Failure::Unsent(problem(Reason::Unavailable));
        assert!(matches!(plan.after(unsent(), LEFT), Next::Pause(_)));
        assert!(matches!(plan.after(unsent(), LEFT), Next::Pause(_)));
        match plan.after(unsent(), LEFT) {
            Next::GiveUp(problem) => assert_eq!(problem.reason, Reason::Unavailable),
            next => panic!("{next:?}"),
        }
    }

    #[test]
    fn a_refusal_after_a_lost_reply_is_its_answer_only_if_request_ids_were_looked_at() {
        let after_a_lost_reply = |failure| {
            let mut plan = Plan::new(Effect::Change);
            let lost = Failure::Unknown(problem(Reason::Unavailable));
            assert!(matches!(plan.after(lost, LEFT), Next::Pause(_)));
            plan.after(failure, LEFT)
        };
        for reason in [
            Reason::ApiKeyRevoked,
            Reason::ResourceExhausted,
            Reason::Internal,
        ] {
            assert!(
                matches!(after_a_lost_reply(Failure::Refused(problem(reason))),
                    Next::GiveUp(problem) if problem.reason == Reason::OutcomeUnknown),
                "{reason}"
            );
        }
        let reused = Failure::Refused(problem(Reason::RequestIdReused));
        assert!(matches!(after_a_lost_reply(reused),
            Next::GiveUp(problem) if problem.reason == Reason::RequestIdReused));
        let away = classify(&to_status(&problem(Reason::Unavailable)));
        assert!(matches!(after_a_lost_reply(away), Next::Pause(_)));
    }

    #[test]
    fn a_refused_session_is_exchanged_once() {
        let mut plan = Plan::new(Effect::Read);
        let refused = || Failure::Session(problem(Reason::SessionExpired));
        assert_eq!(plan.after(refused(), LEFT), Next::LogInAgain);
        assert!(matches!(plan.after(refused(), LEFT), Next::GiveUp(_)));
    }
}
