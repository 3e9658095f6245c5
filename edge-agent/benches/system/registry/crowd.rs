//! Registered agents by the thousand, written as registering writes them.

use anyhow::Result;

use crate::postgres::Postgres;

/// So many agents on each machine that has joined.
pub(super) async fn register(postgres: &Postgres, each: usize) -> Result<()> {
    let agents = format!(
        "SELECT machine.id, number FROM machine, generate_series(1, {each}) AS number
         WHERE EXISTS (SELECT FROM edge WHERE edge.machine_id = machine.id)"
    );
    insert(postgres, &agents).await
}

/// So many in all, the further ones on machines that nobody has heard of.
pub(super) async fn grow_to(postgres: &Postgres, all: usize) -> Result<()> {
    let agents = format!(
        "SELECT gen_random_uuid(), number
         FROM generate_series(1, {all} - (SELECT count(*) FROM agent_registration)) AS number"
    );
    insert(postgres, &agents).await
}

async fn insert(postgres: &Postgres, agents: &str) -> Result<()> {
    let registrations = format!(
        "INSERT INTO agent_registration (
               agent_id, epoch, machine_id, api_key_id, capabilities, labels, trust, zone, ttl_seconds,
               own_liveness, liveness, ended, vouched_at, registered_at, updated_at)
           SELECT 'agent-' || epoch, epoch, id, gen_random_uuid(),
                  json_build_array(json_build_object('name', 'work.kind-' || epoch % 100)),
                  '{{}}', epoch % 1001, 'local_machine', 90, 0, 0, false, now(), now(), now()
           FROM (SELECT id, nextval('registration_epoch') AS epoch FROM ({agents}) AS agent (id, number)) AS a"
    );
    let terms = "INSERT INTO agent_term (term, liveness, distrust, agent_id, machine_id)
                 SELECT term, liveness, distrust, agent_id, machine_id
                 FROM agent_registration AS r, LATERAL (VALUES ('work.'), ('work.kind-' || r.epoch % 100)) AS t (term)
                 ON CONFLICT DO NOTHING";
    let statements = [
        registrations.as_str(),
        terms,
        "ANALYZE agent_registration, agent_term, edge",
    ];
    postgres.execute(&statements).await
}
