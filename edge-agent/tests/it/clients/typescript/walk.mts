// What every client does with the edge, whatever SDK it is made with.

import assert from "node:assert/strict";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";

export interface Edge {
  url: string;
  websocket: string;
  edgeAgent: string;
  socket: string;
  transport: "http" | "sse" | "ws" | "stdio";
  revision: string;
}

/** What an adapter beside this file makes of an SDK's client. */
export interface Client {
  /** The protocol revision that was agreed on. */
  revision: string | undefined;
  tools(): Promise<Tool[]>;
  call(tool: string, args: Fields, signal?: AbortSignal): Promise<Outcome>;
  resources(): Promise<string[]>;
  read(uri: string): Promise<string>;
  /** Has the edge tell of changes, until `close`. */
  follow(uri: string): Promise<Updates>;
  close(): Promise<void>;
}

export interface Tool {
  name: string;
  inputSchema: Schema;
  outputSchema?: object | undefined;
}

export interface Outcome {
  isError?: boolean | undefined;
  structuredContent?: unknown;
  content: { type: string; text?: unknown }[];
}

export interface Updates {
  next(): Promise<unknown>;
  close(): Promise<unknown>;
}

type Connect = (edge: Edge, apiKey: string) => Promise<Client>;
type Fields = Record<string, any>;
type Schema = { type: string; properties?: Fields | undefined; required?: string[] | undefined };

const ACTIVE = "grants://active";
const TOOLS = ["request_permission", "permission_status", "renew_permission", "validate_token", "revoke_token",
  "register_agent", "deregister_agent", "heartbeat", "discover_agents",
  "blackboard_read", "blackboard_write", "blackboard_delete", "blackboard_list", "blackboard_transaction",
  "lock_acquire", "lock_renew", "lock_release",
  "request_allocation", "report_spending", "budget_status"];
const SHARED = "blackboard://strong/walk%2Fa%20b";
const SHARED_KEY = "walk/a b";
const ASKING = { agent_id: "data_analyst", resource_type: "SAP_API", justification: "Q4 analysis task" };
const UNKNOWN_KEY = "agk_0000000000000000000001_0000000000000000000000000000000000000000001";

export async function main(connect: Connect): Promise<void> {
  const option = { type: "string" } as const;
  const { values } = parseArgs({
    options: { transport: option, revision: option, websocket: option, "edge-agent": option, socket: option },
  });
  const edge: Edge = {
    url: process.env.AUTHGUARDIAN_EDGE_URL!,
    websocket: values.websocket!,
    edgeAgent: values["edge-agent"]!,
    socket: values.socket!,
    transport: values.transport as Edge["transport"],
    revision: values.revision!,
  };
  const client = await connect(edge, process.env.AUTHGUARDIAN_API_KEY!);
  try {
    assert.equal(client.revision, edge.revision);
    await findsItsWay(client);
    await livesThroughAGrant(client);
    await sharesABlackboard(client);
    await isToldOfErrors(client);
    await callsSideBySide(client);
    await givesUpACall(client);
  } finally {
    await client.close();
  }
  await isRefusedWithAWrongKey(connect, edge);
}

/** What carries the key, where headers can be sent. */
export function bearer(apiKey: string) {
  return { Authorization: `Bearer ${apiKey}` };
}

/** What opens one stream, where only a URL can be given. */
export async function ticket(edge: Edge, apiKey: string): Promise<string> {
  const answer = await fetch(new URL("/auth/ticket", edge.url), { method: "POST", headers: bearer(apiKey) });
  const body = await answer.text();
  assert(answer.ok, body);
  return JSON.parse(body).ticket;
}

/** The program to start, where the transport is stdio. */
export function bridge(edge: Edge, apiKey: string) {
  return {
    command: edge.edgeAgent,
    args: ["stdio", "--socket", edge.socket],
    env: { AUTHGUARDIAN_API_KEY: apiKey },
  };
}

async function findsItsWay(client: Client) {
  const tools = await client.tools();
  assert.deepEqual(tools.map((tool) => tool.name), TOOLS);
  for (const { name, inputSchema: takes, outputSchema: gives } of tools) {
    assert.equal(takes.type, "object", name);
    assert(takes.required?.length || ["discover_agents", "blackboard_list"].includes(name), name);
    for (const field of Object.values({ ...takes.properties, ...(gives as Schema).properties })) {
      assert(field.description, name);
    }
  }
  assert.deepEqual(await client.resources(), [ACTIVE, "grants://audit", "agents://registry"]);
}

async function livesThroughAGrant(client: Client) {
  const updates = await client.follow(ACTIVE);
  const granted = await result(client, "request_permission", ASKING);
  assert.deepEqual([granted.decision, granted.score], ["granted", 570]);
  await updates.next();
  assert.deepEqual(await active(client), [granted.grant_id]);

  const check = { agent_id: "data_analyst", resource_type: "SAP_API" };
  assert.equal((await result(client, "validate_token", { ...check, token: granted.token })).valid, true);
  const status = await result(client, "permission_status", { grant_id: granted.grant_id });
  assert.deepEqual([status.decision, status.grant_id], ["granted", granted.grant_id]);

  const renewed = await result(client, "renew_permission", { token: granted.token, ttl_seconds: 600 });
  assert.equal(renewed.grant_id, granted.grant_id);
  assert(renewed.expires_at > granted.expires_at, renewed.expires_at);
  await updates.next();

  const revoked = await result(client, "revoke_token", { token: renewed.token });
  assert.deepEqual([revoked.revoked, revoked.grant_id], [true, granted.grant_id]);
  await updates.next();
  for (const token of [granted.token, renewed.token]) {
    const refused = await result(client, "validate_token", { ...check, token });
    assert.deepEqual([refused.valid, refused.reason], [false, "GRANT_REVOKED"]);
  }
  assert.deepEqual(await active(client), []);
  await updates.close();
}

async function sharesABlackboard(client: Client) {
  const value = { text: "für 売上 🚀", list: [1, 2.5, null] };
  const updates = await client.follow(SHARED);
  const written = await result(client, "blackboard_write", { board: "strong", key: SHARED_KEY, value });
  await updates.next();
  const shown = JSON.parse(await client.read(SHARED));
  assert.deepEqual([shown.value, shown.revision], [value, written.revision]);
  await updates.close();
  const read = await result(client, "blackboard_read", { board: "strong", key: SHARED_KEY });
  assert.deepEqual([read.value, read.writer], [value, "data_analyst"]);
  const late = { board: "strong", key: SHARED_KEY, value: 1, if_revision: written.previous_revision };
  const refused = await client.call("blackboard_write", late);
  assert.deepEqual([refused.isError, structured(refused).reason], [true, "REVISION_CONFLICT"]);
}

async function isToldOfErrors(client: Client) {
  for (const [wrong, reason, field] of [
    [{ agent_id: "orchestrator" }, "AGENT_MISMATCH", "agent_id"],
    [{ ttl_seconds: 0 }, "INVALID_ARGUMENT", "ttl_seconds"],
  ] as const) {
    const outcome = await client.call("request_permission", { ...ASKING, ...wrong });
    assert.equal(outcome.isError, true);
    const problem = structured(outcome);
    assert.deepEqual([problem.reason, problem.field], [reason, field]);
    assert(problem.detail);
  }
}

async function callsSideBySide(client: Client) {
  const asked = Array.from({ length: 16 }, () => result(client, "request_permission", ASKING));
  const grants = await Promise.all(asked);
  const ids = new Set(grants.map((grant) => grant.grant_id));
  assert.equal(ids.size, 16);
  assert.deepEqual(new Set(await active(client)), ids);
  await Promise.all(grants.map(({ token }) => result(client, "revoke_token", { token })));
  assert.deepEqual(await active(client), []);
}

/** The test holds up the control plane, so that the call would not end by itself. */
async function givesUpACall(client: Client) {
  await agree("hold the next call");
  const giveUp = new AbortController();
  let ended = false;
  const call = client.call("request_permission", ASKING, giveUp.signal).finally(() => (ended = true));
  const refused = assert.rejects(call);
  await agree("is it held?");
  assert.equal(ended, false);
  giveUp.abort("no longer needed");
  await refused;
  // the connection is as good as before, while the call is still held
  assert.equal((await client.tools()).length, TOOLS.length);
  await agree("let go");
  assert.equal((await result(client, "request_permission", ASKING)).decision, "granted");
}

async function isRefusedWithAWrongKey(connect: Connect, edge: Edge) {
  const refusal = await connect(edge, UNKNOWN_KEY).then(
    () => assert.fail("a wrong key was let in"),
    (error: unknown) => String(error),
  );
  assert.match(refusal, /this API key is not known here|HTTP 401|status code \(401\)/);
}

async function result(client: Client, tool: string, args: Fields): Promise<Fields> {
  const outcome = await client.call(tool, args);
  assert(!outcome.isError, JSON.stringify(outcome));
  return structured(outcome);
}

function structured(outcome: Outcome): Fields {
  assert.deepEqual(JSON.parse(String(outcome.content[0]?.text)), outcome.structuredContent);
  return outcome.structuredContent as Fields;
}

async function active(client: Client): Promise<string[]> {
  const { grants } = JSON.parse(await client.read(ACTIVE));
  return grants.map((grant: Fields) => grant.grant_id);
}

/** Tells the test something, and waits until it has done it. */
export async function agree(line: string) {
  const test = createInterface({ input: process.stdin });
  console.log(line);
  assert.equal(await test.question(""), "done");
  test.close();
}
