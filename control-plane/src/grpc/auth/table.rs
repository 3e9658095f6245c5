//! The table.

use crate::identity::Role;

/// What a caller has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Edge listener: nothing; the request itself carries its credential.
    Open,
    /// Edge listener: a client certificate of an enrolled machine whose calls
    /// count, also one that has ended not long ago.
    Renewal,
    /// Edge listener: a client certificate of an enrolled machine whose calls
    /// count.
    Machine,
    /// Edge listener: the certificate, and a session made at that machine.
    Session,
    /// Admin listener: a token or a client certificate of an admin of this role
    /// at least; one of them, not both.
    Role(Role),
    /// Admin socket: to be root, or the user that this process runs as.
    Socket,
}

/// Every RPC. Paths are `/<package>.<service>/<method>`.
pub const TABLE: &[(&str, Access)] = &[
    (
        "/authguardian.identity.v1.EnrolmentService/Join",
        Access::Open,
    ),
    (
        "/authguardian.identity.v1.EnrolmentService/RenewCertificate",
        Access::Renewal,
    ),
    (
        "/authguardian.identity.v1.EnrolmentService/GetOwnMachine",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.SessionService/CreateChallenge",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.SessionService/CreateSession",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.SessionService/GetSession",
        Access::Session,
    ),
    (
        "/authguardian.identity.v1.SessionService/RenewSession",
        Access::Session,
    ),
    (
        "/authguardian.identity.v1.SessionService/EndSession",
        Access::Session,
    ),
    (
        "/authguardian.identity.v1.RateService/LeaseRates",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.KeyService/GetJwks",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.KeyService/GetTrustBundle",
        Access::Machine,
    ),
    (
        "/authguardian.events.v1.EventService/Watch",
        Access::Machine,
    ),
    (
        "/authguardian.events.v1.EventService/GetHeads",
        Access::Machine,
    ),
    (
        "/authguardian.events.v1.EventService/ListRevocations",
        Access::Machine,
    ),
    (
        "/authguardian.grants.v1.GrantService/RequestPermission",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/GetPermission",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/RenewPermission",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/ValidateToken",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/RevokeToken",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/ListActiveGrants",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/ListResourceTypes",
        Access::Session,
    ),
    (
        "/authguardian.audit.v1.AuditService/ListOwnEntries",
        Access::Session,
    ),
    (
        "/authguardian.audit.v1.AuditService/ReportCalls",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.BootstrapService/CreateFirstAdmin",
        Access::Socket,
    ),
    (
        "/authguardian.status.v1.StatusService/GetStatus",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.JoinTokenService/CreateJoinToken",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.JoinTokenService/ListJoinTokens",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.MachineService/ListMachines",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.MachineService/GetMachine",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.MachineService/BanMachine",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.MachineService/UnbanMachine",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.MachineService/EvictMachine",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.MachineService/UpdateMachine",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.ApiKeyService/CreateApiKey",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.ApiKeyService/ListApiKeys",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.ApiKeyService/GetApiKey",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.ApiKeyService/UpdateApiKey",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.ApiKeyService/RevokeApiKey",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.AdminTokenService/CreateAdminToken",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.AdminTokenService/ListAdminTokens",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.AdminTokenService/RevokeAdminToken",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.SigningKeyAdminService/ListSigningKeys",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.SigningKeyAdminService/PrepareSigningKey",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.SigningKeyAdminService/ActivateSigningKey",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.SigningKeyAdminService/RetireSigningKey",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.SigningKeyAdminService/GetCaBundle",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.SuspensionService/Suspend",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.SuspensionService/Resume",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.SuspensionService/ListSuspensions",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.registry.v1.AgentService/PutAgent",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.registry.v1.AgentService/GetAgent",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.registry.v1.AgentService/ListAgents",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.registry.v1.AgentService/DeleteAgent",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.policy.v1.ResourceTypeService/PutResourceType",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.policy.v1.ResourceTypeService/GetResourceType",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.policy.v1.ResourceTypeService/ListResourceTypes",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.policy.v1.PolicyService/GetPolicy",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.policy.v1.PolicyService/PutPolicy",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.policy.v1.PolicyService/ValidatePolicy",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.grants.v1.GrantAdminService/ListGrants",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.grants.v1.GrantAdminService/GetGrant",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.grants.v1.GrantAdminService/RevokeGrants",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.audit.v1.AuditAdminService/TailEntries",
        Access::Role(Role::Viewer),
    ),
];

/// Services of the gRPC ecosystem that tell nothing of ours: health checks need
/// no credential (load balancers have none), reflection needs the smallest role.
const STANDARD: &[(&str, Access)] = &[
    ("/grpc.health.v1.Health/", Access::Open),
    (
        "/grpc.reflection.v1.ServerReflection/",
        Access::Role(Role::Viewer),
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/",
        Access::Role(Role::Viewer),
    ),
];

/// What the table demands of a path, with the path as the table has it; `None`
/// when there is no such method.
pub(super) fn find(path: &str) -> Option<(&'static str, Access)> {
    let named = TABLE.iter().find(|(known, _)| *known == path);
    named
        .or_else(|| STANDARD.iter().find(|(prefix, _)| path.starts_with(prefix)))
        .copied()
}
