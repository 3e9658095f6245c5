//! What may pass to a control plane that is not believed: only what finds out
//! whether it can be again, and what keeps this machine able to.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use authguardian_proto::reason::Problem;

/// Services that nothing is changed or decided by, and the call without which
/// the machine would be locked out for good once its certificate has ended. It
/// brings the CAs that its certificate is of: those of the control plane that is
/// not believed.
const ALWAYS: [&str; 3] = [
    "/authguardian.events.v1.EventService/",
    "/grpc.health.v1.Health/",
    "/authguardian.identity.v1.EnrolmentService/RenewCertificate",
];

/// Whether calls pass; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<ArcSwapOption<Problem>>);

impl Gate {
    /// Answers all calls with this from now on; returns whether that is news.
    pub fn close(&self, problem: Problem) -> bool {
        self.0.swap(Some(Arc::new(problem))).is_none()
    }

    /// Lets calls pass; returns whether that is news.
    pub fn open(&self) -> bool {
        self.0.swap(None).is_some()
    }

    /// Why a call of a path may not pass.
    pub(super) fn refuses(&self, path: &str) -> Option<Arc<Problem>> {
        let closed = self.0.load_full()?;
        let passes = ALWAYS.iter().any(|service| path.starts_with(service));
        (!passes).then_some(closed)
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::reason::Reason;

    use super::*;

    #[test]
    fn what_finds_out_whether_it_can_be_believed_passes_always() {
        let gate = Gate::default();
        let validate = "/authguardian.grants.v1.GrantService/ValidateToken";
        assert!(gate.refuses(validate).is_none());
        assert!(gate.clone().close(Problem::new(Reason::Unavailable, "x")));
        assert!(!gate.close(Problem::new(Reason::Unavailable, "y")));
        assert_eq!(gate.refuses(validate).unwrap().detail, "y");
        for path in [
            "/authguardian.events.v1.EventService/GetHeads",
            "/grpc.health.v1.Health/Watch",
        ] {
            assert!(gate.refuses(path).is_none(), "{path}");
        }
        let enrolment = |call| format!("/authguardian.identity.v1.EnrolmentService/{call}");
        assert!(gate.refuses(&enrolment("RenewCertificate")).is_none());
        assert!(gate.refuses(&enrolment("GetOwnMachine")).is_some());
        assert!(gate.open());
        assert!(!gate.open());
        assert!(gate.refuses(validate).is_none());
    }
}
