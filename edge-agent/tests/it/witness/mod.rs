//! Edges as witnesses of the audit log: what they keep, and what they tell when
//! the log is no longer what they have seen.

mod following;
mod tampering;

use std::{ffi::OsString, path::PathBuf};

use authguardian_proto::{
    audit::v1::{GetLogRequest, Witness, audit_admin_service_server::AuditAdminService},
    checkpoint::Checkpoint,
};
use control_plane::{
    audit::{
        self, Context, Entry,
        log::Log,
        verify::{Finding, Outside, Verification},
    },
    grpc::audit_admin::AuditAdmin,
};
use serde_json::Value;

use crate::{
    edge::{Edge, Launch, command, http, output},
    rig::ControlPlane,
    wait::until_async,
};

const WITNESS: &str = "audit.v1.AuditService/WitnessCheckpoint";

/// A control plane and an edge that looks at its log every second.
struct Watched {
    control_plane: ControlPlane,
    edge: Edge,
    /// Where the edge's log goes.
    log: PathBuf,
    _files: tempfile::TempDir,
}

impl Watched {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        let files = tempfile::tempdir().unwrap();
        let log = files.path().join("edge.log");
        let mut launch = Launch::at(&[control_plane.url()]);
        let every = ("AUTHGUARDIAN_AUDIT__WITNESS_SECONDS", OsString::from("1"));
        launch.environment.push(every);
        launch.log = Some(log.clone());
        let edge = Edge::start_with(&control_plane, "host", launch).await;
        Self {
            control_plane,
            edge,
            log,
            _files: files,
        }
    }

    /// The same, with its edge killed and run again.
    async fn killed_and_run(self) -> Self {
        Self {
            edge: self.edge.kill_and_run().await,
            ..self
        }
    }

    /// Appends so many acts, and waits until everything is sealed and signed.
    async fn act(&self, count: u64) -> Log {
        let db = &self.control_plane.app.db;
        let act = |number: u64| Entry::ok(Context::system(), "test.act", number.to_string());
        let acts: Vec<Entry> = (0..count).map(act).collect();
        let mut tx = db.begin().await.unwrap();
        let now = self.control_plane.app.ambient.clock.now();
        audit::append(&mut tx, now, &acts).await.unwrap();
        db.commit(tx).await.unwrap();
        self.signed().await
    }

    /// Waits until everything is sealed and signed.
    async fn signed(&self) -> Log {
        until_async("the log is signed", async || self.is_signed().await).await;
        self.newest_log().await
    }

    async fn is_signed(&self) -> bool {
        let mut connection = self.control_plane.app.db.read().await.unwrap();
        let pending = audit::pending_count(&mut connection).await.unwrap();
        let log = audit::log::logs(&mut connection)
            .await
            .unwrap()
            .pop()
            .unwrap();
        let signed = audit::newest_checkpoint(&mut connection, &log)
            .await
            .unwrap();
        pending == 0 && signed.is_some_and(|signed| signed.head == log.head)
    }

    async fn newest_log(&self) -> Log {
        let mut connection = self.control_plane.app.db.read().await.unwrap();
        audit::log::logs(&mut connection)
            .await
            .unwrap()
            .pop()
            .unwrap()
    }

    /// How the edge stands as a witness.
    async fn status(&self) -> Value {
        let url = format!("{}/readyz", self.edge.url);
        let ready = http().get(url).send().await.unwrap();
        let ready: Value = ready.json().await.unwrap();
        ready["audit_log"].clone()
    }

    /// Waits until the edge has kept that much of a log.
    async fn keeps(&self, log: &Log) -> Checkpoint {
        let size = log.head.size.unsigned_abs();
        until_async("the log is witnessed", async || {
            let status = self.status().await;
            status["origin"] == log.origin && status["size"].as_u64() >= Some(size)
        })
        .await;
        let note = self.checkpoint(&[]).await;
        Checkpoint::read_unverified(&note).unwrap()
    }

    /// Waits until the edge refuses the log for this.
    async fn refuses(&self, kind: &str) -> Value {
        until_async(kind, async || self.status().await["refused"] == kind).await;
        self.status().await
    }

    /// Waits until the edge has looked so often again.
    async fn looks(&self, times: u64) {
        let before = self.control_plane.calls(WITNESS);
        until_async("the edge looks again", async || {
            self.control_plane.calls(WITNESS) >= before + times
        })
        .await;
    }

    /// What `edge-agent checkpoint` prints.
    async fn checkpoint(&self, arguments: &[&str]) -> String {
        let mut command = command();
        command.arg("checkpoint").args(arguments);
        command.arg("--data-dir").arg(self.edge.dir.path());
        let output = output(command).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a verification finds against a checkpoint from outside: kinds.
    async fn found(&self, checkpoint: &str) -> Vec<&'static str> {
        let app = &self.control_plane.app;
        let outside = Outside {
            checkpoint: checkpoint.to_owned(),
            public_keys: app.identity.checkpoint_keys().await.unwrap(),
        };
        let begun = Verification::begin(app.db.clone(), "", outside);
        let mut verification = begun.await.unwrap();
        let mut found: Vec<Finding> = Vec::new();
        while let Some(mut progress) = verification.step().await.unwrap() {
            found.append(&mut progress.findings);
        }
        found.iter().map(|finding| finding.kind.as_str()).collect()
    }

    /// What operators are told of the one witness.
    async fn witness(&self) -> Witness {
        let app = &self.control_plane.app;
        let admin = AuditAdmin {
            db: app.db.clone(),
            ambient: app.ambient.clone(),
            identity: app.identity.clone(),
            stop: app.stop.clone(),
        };
        let told = admin.get_log(tonic::Request::new(GetLogRequest {})).await;
        let mut witnesses = told.unwrap().into_inner().witnesses;
        assert_eq!(witnesses.len(), 1);
        witnesses.remove(0)
    }

    /// How many calls the log has of refused checkpoints, by reason.
    async fn told(&self, reason: &str) -> i64 {
        let mut connection = self.control_plane.app.db.read().await.unwrap();
        sqlx::query_scalar(
            "SELECT coalesce(sum(count), 0)::bigint FROM sealed_audit_entry
             WHERE action = 'audit.witness' AND outcome = 'failed' AND reason = $1
               AND machine_id IS NOT NULL",
        )
        .bind(reason)
        .fetch_one(&mut *connection)
        .await
        .unwrap()
    }
}
