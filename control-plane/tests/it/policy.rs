//! Policies and resource types, as they are kept.

use authguardian_proto::{
    policy::v1::{
        GetPolicyRequest, ListResourceTypesRequest, PutPolicyRequest, PutResourceTypeRequest,
        ResourceType as Message, ValidatePolicyRequest, policy_service_server::PolicyService,
        resource_type_service_server::ResourceTypeService,
    },
    reason::Reason,
    status::from_status,
};
use control_plane::{
    events::Stream,
    grpc::{policy::PolicyAdmin, resource_type::ResourceTypes},
    policy::{
        Engine, Policies, ResourceType, engine::DEFAULT_POLICIES, lock_active, lock_resource_types,
        validation,
    },
};
use tonic::Request;

use crate::{
    records::{fault, problem, request},
    rig::Rig,
};

const OPEN: &str = "@id(\"open\") permit (principal, action, resource);";

async fn open() -> (Rig, Policies) {
    let rig = Rig::open().await;
    let policies = rig.app.policies.clone();
    (rig, policies)
}

fn crm() -> ResourceType {
    ResourceType {
        name: "CRM_API".parse().unwrap(),
        base_risk: 450,
        restrictions: vec!["read_only".into(), "max_records:100".into()],
        default_ttl_seconds: 60,
        max_ttl_seconds: 600,
        description: "Customers".into(),
    }
}

#[tokio::test]
async fn the_shipped_policies_are_version_1_however_often_it_is_opened() {
    let (rig, policies) = open().await;
    // as at a first start, of two control planes at once
    sqlx::query("TRUNCATE active_policy, policy_set CASCADE")
        .execute(rig.database.pool())
        .await
        .unwrap();
    let open = || Policies::open(rig.app.db.clone(), rig.app.ambient.clone());
    let (one, other) = tokio::join!(open(), open());
    one.and(other).unwrap();
    let policy = policies.get(None).await.unwrap();
    assert_eq!(
        (policy.text.version, &*policy.text.source),
        (1, DEFAULT_POLICIES)
    );
    assert!(policy.active);
    assert_eq!(policy.created_by, "system");
    assert_eq!(
        rig.audited().await,
        ["policy.put 1 ok", "policy.put 1 ok"],
        "once before, once now"
    );
    assert_eq!(rig.revision(Stream::Policy).await, 2);
}

#[tokio::test]
async fn a_put_policy_is_in_force_as_the_next_version() {
    let (rig, policies) = open().await;
    let put = policies
        .put(request("a"), OPEN.into(), Some(1))
        .await
        .unwrap();
    assert_eq!((put.text.version, put.active), (2, true));
    assert!(put.created_by.starts_with("adm_"));
    assert_eq!(policies.get(None).await.unwrap(), put);
    assert_eq!(policies.active_version().await.unwrap(), 2);
    let before = policies.get(Some(1)).await.unwrap();
    assert_eq!(
        (before.active, &*before.text.source),
        (false, DEFAULT_POLICIES)
    );
    assert_eq!(rig.audited().await, ["policy.put 1 ok", "policy.put 2 ok"]);
    assert_eq!(rig.revision(Stream::Policy).await, 2);
}

#[tokio::test]
async fn a_repeated_put_gets_the_first_outcome() {
    let (rig, policies) = open().await;
    let first = policies
        .put(request("a"), OPEN.into(), Some(1))
        .await
        .unwrap();
    rig.clock.advance(std::time::Duration::from_mins(1));
    assert_eq!(
        policies
            .put(request("a"), OPEN.into(), Some(1))
            .await
            .unwrap(),
        first
    );
    assert_eq!(policies.active_version().await.unwrap(), 2);
    assert_eq!(
        problem(policies.put(request("a"), OPEN.into(), None).await).reason,
        Reason::RequestIdReused
    );
    assert_eq!(
        policies
            .put(request(""), OPEN.into(), None)
            .await
            .unwrap()
            .text
            .version,
        3
    );
}

#[tokio::test]
async fn a_put_against_another_version_conflicts_and_changes_nothing() {
    let (rig, policies) = open().await;
    for seen in [2, u64::MAX] {
        let conflict = policies.put(request("a"), OPEN.into(), Some(seen)).await;
        assert_eq!(
            fault(conflict),
            ("REVISION_CONFLICT".into(), "if_version".into())
        );
    }
    assert_eq!(policies.active_version().await.unwrap(), 1);
    assert_eq!(rig.revision(Stream::Policy).await, 1);
    // the id was not used up
    assert_eq!(
        policies
            .put(request("a"), OPEN.into(), Some(1))
            .await
            .unwrap()
            .text
            .version,
        2
    );
}

#[tokio::test]
async fn puts_at_the_same_time_get_versions_of_their_own() {
    let (_rig, policies) = open().await;
    let puts = (0..8).map(|n| {
        let policies = policies.clone();
        tokio::spawn(async move {
            policies
                .put(request(&format!("r{n}")), OPEN.into(), None)
                .await
        })
    });
    let mut versions = Vec::new();
    for put in puts.collect::<Vec<_>>() {
        versions.push(put.await.unwrap().unwrap().text.version);
    }
    versions.sort_unstable();
    assert_eq!(versions, (2..10).collect::<Vec<_>>());
    assert_eq!(policies.active_version().await.unwrap(), 9);
}

#[tokio::test]
async fn an_invalid_policy_is_refused_with_every_finding() {
    let (rig, policies) = open().await;
    let source = "@ttl(\"x\") permit (principal, action, resource); @id(\"b\") @foo forbid (principal, action, resource);";
    let refused = problem(policies.put(request("a"), source.into(), None).await);
    assert_eq!(
        (refused.reason, refused.field.as_deref()),
        (Reason::InvalidArgument, Some("source"))
    );
    for finding in [
        "`@ttl` takes",
        "`@id` is missing",
        "unknown annotation `@foo`",
    ] {
        assert!(refused.detail.contains(finding), "{}", refused.detail);
    }
    let unknown = policies
        .put(
            request("a"),
            OPEN.replace(';', " when { context.scor > 1 };"),
            None,
        )
        .await;
    assert_eq!(fault(unknown), ("INVALID_ARGUMENT".into(), "source".into()));
    let nul = policies
        .put(request("a"), format!("{OPEN} // \0"), None)
        .await;
    assert_eq!(fault(nul), ("INVALID_ARGUMENT".into(), "source".into()));
    let large = policies
        .put(
            request("a"),
            " ".repeat(validation::MAX_SOURCE_BYTES + 1),
            None,
        )
        .await;
    assert_eq!(fault(large), ("TOO_LARGE".into(), "source".into()));
    assert_eq!(rig.revision(Stream::Policy).await, 1);
}

#[tokio::test]
async fn a_version_that_never_was_is_told() {
    let (_rig, policies) = open().await;
    for version in [2, u64::MAX] {
        assert_eq!(
            fault(policies.get(Some(version)).await),
            ("INVALID_ARGUMENT".into(), "version".into())
        );
    }
}

#[tokio::test]
async fn policies_are_not_replaced_while_a_decision_by_them_is_committed() {
    let (rig, policies) = open().await;
    let mut decision = rig.app.db.begin().await.unwrap();
    let engine = Engine::default();
    let locked = lock_active(&mut decision, &engine).await.unwrap();
    assert_eq!(locked.policies.version(), 1);
    let putting = tokio::spawn({
        let policies = policies.clone();
        async move { policies.put(request("a"), OPEN.into(), None).await }
    });
    rig.until_somebody_waits_for_a_lock().await;
    assert_eq!(policies.active_version().await.unwrap(), 1);
    rig.app.db.commit(decision).await.unwrap();
    assert_eq!(putting.await.unwrap().unwrap().text.version, 2);
}

#[tokio::test]
async fn a_decision_that_waited_for_new_policies_is_made_by_them() {
    let (rig, _policies) = open().await;
    let mut replacing = rig.database.pool().begin().await.unwrap();
    sqlx::query("INSERT INTO policy_set VALUES (2, $1, now(), 'adm_x')")
        .bind(OPEN)
        .execute(&mut *replacing)
        .await
        .unwrap();
    sqlx::query("UPDATE active_policy SET version = 2")
        .execute(&mut *replacing)
        .await
        .unwrap();
    let deciding = tokio::spawn({
        let db = rig.app.db.clone();
        async move { lock_active(&mut db.begin().await.unwrap(), &Engine::default()).await }
    });
    rig.until_somebody_waits_for_a_lock().await;
    replacing.commit().await.unwrap();
    assert_eq!(deciding.await.unwrap().unwrap().policies.version(), 2);
}

#[tokio::test]
async fn the_seeded_resource_types_are_there() {
    let (_rig, policies) = open().await;
    let types = policies.list_resource_types(None, 100).await.unwrap();
    let told: Vec<_> = types
        .iter()
        .map(|t| (t.name.as_str(), t.base_risk, t.restrictions.join(",")))
        .collect();
    assert_eq!(
        told,
        [
            ("DATA_EXPORT", 600, "anonymize_pii,local_only".to_owned()),
            (
                "EXTERNAL_SERVICE",
                400,
                "rate_limit:10_per_minute".to_owned()
            ),
            (
                "FINANCIAL_API",
                700,
                "read_only,no_pii_fields,audit_required".to_owned()
            ),
            ("SAP_API", 500, "read_only,max_records:100".to_owned()),
        ]
    );
    assert!(
        types
            .iter()
            .all(|t| (t.default_ttl_seconds, t.max_ttl_seconds) == (300, 3600))
    );
}

#[tokio::test]
async fn a_resource_type_is_created_and_replaced() {
    let (rig, policies) = open().await;
    assert_eq!(
        policies
            .put_resource_type(request("a"), crm())
            .await
            .unwrap(),
        crm()
    );
    assert_eq!(policies.resource_type(&crm().name).await.unwrap(), crm());
    let riskier = ResourceType {
        base_risk: 900,
        restrictions: Vec::new(),
        ..crm()
    };
    policies
        .put_resource_type(request("b"), riskier.clone())
        .await
        .unwrap();
    assert_eq!(policies.resource_type(&crm().name).await.unwrap(), riskier);
    // a late repeat of the first put is told its outcome, and undoes nothing
    assert_eq!(
        policies
            .put_resource_type(request("a"), crm())
            .await
            .unwrap(),
        crm()
    );
    assert_eq!(policies.resource_type(&crm().name).await.unwrap(), riskier);
    assert_eq!(
        problem(policies.put_resource_type(request("a"), riskier).await).reason,
        Reason::RequestIdReused
    );
    assert_eq!(
        rig.audited().await[1..],
        [
            "resource_type.put CRM_API ok",
            "resource_type.put CRM_API ok"
        ]
    );
    assert_eq!(rig.revision(Stream::Policy).await, 3);
}

#[tokio::test]
async fn an_unknown_resource_type_is_told() {
    let (_rig, policies) = open().await;
    let unknown = policies.resource_type(&crm().name).await;
    assert_eq!(
        fault(unknown),
        ("UNKNOWN_RESOURCE_TYPE".into(), "resource_type".into())
    );
}

#[tokio::test]
async fn a_malformed_resource_type_names_its_field() {
    let (rig, policies) = open().await;
    let cases = [
        (
            ResourceType {
                base_risk: 1001,
                ..crm()
            },
            "base_risk",
        ),
        (
            ResourceType {
                restrictions: vec!["a b".into()],
                ..crm()
            },
            "restrictions",
        ),
        (
            ResourceType {
                restrictions: vec!["a".into(), "a".into()],
                ..crm()
            },
            "restrictions",
        ),
        (
            ResourceType {
                restrictions: (0..33).map(|n| format!("r{n}")).collect(),
                ..crm()
            },
            "restrictions",
        ),
        (
            ResourceType {
                max_ttl_seconds: 0,
                ..crm()
            },
            "max_ttl_seconds",
        ),
        (
            ResourceType {
                max_ttl_seconds: 86_401,
                ..crm()
            },
            "max_ttl_seconds",
        ),
        (
            ResourceType {
                default_ttl_seconds: 0,
                ..crm()
            },
            "default_ttl_seconds",
        ),
        (
            ResourceType {
                default_ttl_seconds: 601,
                ..crm()
            },
            "default_ttl_seconds",
        ),
        (
            ResourceType {
                description: "x".repeat(501),
                ..crm()
            },
            "description",
        ),
        (
            ResourceType {
                description: "\0".into(),
                ..crm()
            },
            "description",
        ),
    ];
    for (malformed, field) in cases {
        let refused = fault(policies.put_resource_type(request("a"), malformed).await);
        assert_eq!(
            refused,
            ("INVALID_ARGUMENT".into(), format!("resource_type.{field}"))
        );
    }
    assert_eq!(rig.revision(Stream::Policy).await, 1);
}

#[tokio::test]
async fn resource_types_are_locked_in_name_order_and_the_unknown_left_out() {
    let (rig, policies) = open().await;
    let names = ["SAP_API", "NOPE", "DATA_EXPORT"].map(|name| name.parse().unwrap());
    let mut decision = rig.app.db.begin().await.unwrap();
    let locked = lock_resource_types(&mut decision, &names).await.unwrap();
    assert_eq!(
        locked.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(),
        ["DATA_EXPORT", "SAP_API"]
    );
    let putting = tokio::spawn({
        let policies = policies.clone();
        async move {
            policies
                .put_resource_type(
                    request("a"),
                    ResourceType {
                        name: "SAP_API".parse().unwrap(),
                        ..crm()
                    },
                )
                .await
        }
    });
    rig.until_somebody_waits_for_a_lock().await;
    rig.app.db.commit(decision).await.unwrap();
    putting.await.unwrap().unwrap();
}

#[tokio::test]
async fn resource_types_are_listed_page_by_page() {
    let (_rig, policies) = open().await;
    let face = ResourceTypes(policies);
    let page = async |page_size, page_token: &str| {
        let request = ListResourceTypesRequest {
            page_size,
            page_token: page_token.into(),
        };
        face.list_resource_types(Request::new(request))
            .await
            .map(tonic::Response::into_inner)
    };
    let names = |types: &[Message]| types.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    let first = page(3, "").await.unwrap();
    assert_eq!(
        names(&first.resource_types),
        ["DATA_EXPORT", "EXTERNAL_SERVICE", "FINANCIAL_API"]
    );
    let second = page(3, &first.next_page_token).await.unwrap();
    assert_eq!(
        (names(&second.resource_types), second.next_page_token),
        (vec!["SAP_API".to_owned()], String::new())
    );
    for (size, token, field) in [
        (1001, "", "page_size"),
        (0, "no such form", "page_token"),
        (0, "a\0", "page_token"),
    ] {
        let problem = from_status(&page(size, token).await.unwrap_err());
        assert_eq!(
            (problem.reason, problem.field.as_deref()),
            (Reason::InvalidArgument, Some(field))
        );
    }
}

#[tokio::test]
async fn a_resource_type_message_is_read_with_its_defaults() {
    let (_rig, policies) = open().await;
    let face = ResourceTypes(policies);
    let put = async |resource_type, request_id: &str| {
        let request = PutResourceTypeRequest {
            resource_type,
            request_id: request_id.into(),
        };
        face.put_resource_type(Request::new(request)).await
    };
    let sparse = Message {
        name: "CRM_API".into(),
        base_risk: 1,
        ..Message::default()
    };
    let told = put(Some(sparse.clone()), "")
        .await
        .unwrap()
        .into_inner()
        .resource_type
        .unwrap();
    assert_eq!(
        told,
        Message {
            default_ttl_seconds: 300,
            max_ttl_seconds: 3600,
            ..sparse.clone()
        }
    );
    let lower = Message {
        name: "crm".into(),
        ..sparse.clone()
    };
    for (message, request_id, field) in [
        (None, "", "resource_type"),
        (Some(lower), "", "resource_type.name"),
        (Some(sparse), "a b", "request_id"),
    ] {
        let problem = from_status(&put(message, request_id).await.unwrap_err());
        assert_eq!(
            (problem.reason, problem.field.as_deref()),
            (Reason::InvalidArgument, Some(field))
        );
    }
}

#[tokio::test]
async fn the_policy_service_tells_policy_schema_and_findings() {
    let (_rig, policies) = open().await;
    let face = PolicyAdmin(policies);
    let told = face
        .get_policy(Request::new(GetPolicyRequest { version: 0 }))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(told.policy.unwrap().version, 1);
    assert_eq!(told.schema, validation::SCHEMA);
    let put = PutPolicyRequest {
        source: OPEN.into(),
        if_version: 0,
        request_id: "a".into(),
    };
    let put = face
        .put_policy(Request::new(put))
        .await
        .unwrap()
        .into_inner()
        .policy
        .unwrap();
    assert_eq!(
        (put.version, put.active, put.source.as_str()),
        (2, true, OPEN)
    );
    let validate = async |source: &str| {
        let request = ValidatePolicyRequest {
            source: source.into(),
        };
        face.validate_policy(Request::new(request))
            .await
            .unwrap()
            .into_inner()
    };
    let (good, bad, empty) = (
        validate(OPEN).await,
        validate("permit").await,
        validate("").await,
    );
    assert!(good.valid && good.errors.is_empty() && good.warnings.is_empty());
    assert!(!bad.valid && !bad.errors.is_empty());
    assert!(empty.valid && empty.warnings.len() == 1);
}
