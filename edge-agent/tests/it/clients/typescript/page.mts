// A page in Chromium: `deploy/examples/browser/grants.html` used as a person would, and what else a page can try.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";

import { chromium, type Page } from "playwright-core";

import { agree } from "./walk.mts";

const option = { type: "string" } as const;
const { values: program } = parseArgs({ options: { page: option, chromium: option } });
const { AUTHGUARDIAN_EDGE_URL: edge = "", AUTHGUARDIAN_API_KEY: key = "" } = process.env;
const UNKNOWN_KEY = "agk_0000000000000000000001_0000000000000000000000000000000000000000001";
const ASKING = { agent_id: "data_analyst", resource_type: "SAP_API", justification: "Q4 analysis task" };

const html = await readFile(program.page!);
const server = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end(html));
await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
const { port } = server.address() as AddressInfo;

const browser = await chromium.launch({
  executablePath: program.chromium!,
  chromiumSandbox: false,
  args: [
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    // and nothing beyond this machine
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  ],
});
try {
  const page = await visit(`http://127.0.0.1:${port}/`);
  await showsGrantsAsTheyHappen(page);
  await goesOnAfterARestart(page);
  await readsWhyItIsRefused(page);
  await opensOneStreamWithATicket(page);
  await speaksMcpOverAWebSocket(page);

  await getsNothing(await visit(`http://evil.example:${port}/`), page);
} finally {
  await browser.close();
  server.close();
}

async function visit(url: string): Promise<Page> {
  const page = await browser.newPage();
  // for a failure
  page.on("console", (message) => console.error(message.text()));
  await page.goto(url);
  return page;
}

async function showsGrantsAsTheyHappen(page: Page) {
  await page.getByLabel("Edge").fill(edge);
  await page.getByLabel("API key").fill(UNKNOWN_KEY);
  await page.getByRole("button", { name: "Connect" }).click();
  await page.getByText("API_KEY_UNKNOWN").waitFor();

  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Connect" }).click();
  await page.getByText("connected", { exact: true }).waitFor();
  const granted = await showsWhatComesOf(page, "Ask for SAP_API", "grant.granted");
  assert.match(granted, /^grt_/);
  assert.equal(await showsWhatComesOf(page, "Give back", "grant.revoked"), granted);
}

/** With another ticket, once there is one, and what happened since the last event that it heard. */
async function goesOnAfterARestart(page: Page) {
  const granted = await showsWhatComesOf(page, "Ask for SAP_API", "grant.granted");
  // the event may come before the answer
  await page.locator("button:enabled", { hasText: "Give back" }).waitFor();
  await page.route("**/auth/ticket", (route) => route.abort(), { times: 1 });
  await agree("restart the edge");
  await page.getByText("connected", { exact: true }).waitFor();
  assert.equal(await showsWhatComesOf(page, "Give back", "grant.revoked"), granted);
}

/** The grant that an event is about, which comes of pushing a button. */
async function showsWhatComesOf(page: Page, button: string, event: string): Promise<string> {
  const items = page.getByRole("listitem");
  const next = items.nth(await items.count());
  await page.getByRole("button", { name: button }).click();
  const [name, grant] = (await next.innerText()).split(" ");
  assert.equal(name, event);
  return grant!;
}

async function readsWhyItIsRefused(page: Page) {
  const refused = await post(page, "/mcp/tools/request_permission", { ...ASKING, ttl_seconds: 0 });
  assert.deepEqual([refused.status, refused.body.field], [400, "ttl_seconds"]);
}

async function opensOneStreamWithATicket(page: Page) {
  const url = `${edge}/events?ticket=${await ticket(page)}`;
  assert.equal(await opens(page, url), true);
  assert.equal(await opens(page, url), false);
}

async function speaksMcpOverAWebSocket(page: Page) {
  const url = `${edge.replace("http", "ws")}/ws?ticket=${await ticket(page)}`;
  const told = await page.evaluate(
    ({ url, asking }) =>
      new Promise<{ protocol: string; granted: Record<string, any>; updated: string }>((resolve, reject) => {
        const socket = new WebSocket(url, "mcp");
        let granted: Record<string, any> | undefined;
        let updated: string | undefined;
        const say = (message: object) => socket.send(JSON.stringify({ jsonrpc: "2.0", ...message }));
        socket.onopen = () => {
          const clientInfo = { name: "page", version: "1" };
          say({ id: 1, method: "initialize", params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo } });
        };
        socket.onmessage = ({ data }) => {
          const { id, params, result } = JSON.parse(data);
          if (id === 1) {
            say({ method: "notifications/initialized" });
            say({ id: 2, method: "resources/subscribe", params: { uri: "grants://active" } });
          } else if (id === 2) {
            say({ id: 3, method: "tools/call", params: { name: "request_permission", arguments: asking } });
          } else if (id === 3) {
            granted = result.structuredContent;
          } else {
            updated = params.uri;
          }
          if (granted && updated) {
            resolve({ protocol: socket.protocol, granted, updated });
            socket.close();
          }
        };
        socket.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
      }),
    { url, asking: ASKING },
  );
  assert.deepEqual([told.protocol, told.granted.decision, told.updated], ["mcp", "granted", "grants://active"]);
  const revoked = await post(page, "/mcp/tools/revoke_token", { token: told.granted.token });
  assert.equal(revoked.body.revoked, true);
}

/** Even with the key, and with a ticket of a page of this machine, which it cannot use up either. */
async function getsNothing(foreign: Page, page: Page) {
  await assert.rejects(post(foreign, "/mcp/tools/request_permission", ASKING), /Failed to fetch/);
  await assert.rejects(post(foreign, "/auth/ticket", {}), /Failed to fetch/);
  const good = await ticket(page);
  assert.equal(await opens(foreign, `${edge}/events?ticket=${good}`), false);
  assert.equal(await connects(foreign, `${edge.replace("http", "ws")}/ws?ticket=${good}`), false);
  assert.equal(await opens(page, `${edge}/events?ticket=${good}`), true);
  const active = await page.evaluate(
    async ({ url, key }) => (await fetch(url, { headers: { Authorization: `Bearer ${key}` } })).json(),
    { url: `${edge}/mcp/resources/grants://active`, key },
  );
  assert.deepEqual(active, { grants: [] });
}

async function ticket(page: Page): Promise<string> {
  return (await post(page, "/auth/ticket", {})).body.ticket;
}

function post(page: Page, path: string, body: object): Promise<{ status: number; body: Record<string, any> }> {
  return page.evaluate(
    async ({ url, key, body }) => {
      const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
      const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
      return { status: answer.status, body: await answer.json() };
    },
    { url: `${edge}${path}`, key, body },
  );
}

/** Whether an EventSource gets its stream. */
function opens(page: Page, url: string): Promise<boolean> {
  return page.evaluate(
    (url) =>
      new Promise<boolean>((resolve) => {
        const events = new EventSource(url);
        const tell = (opened: boolean) => () => {
          events.close();
          resolve(opened);
        };
        events.onopen = tell(true);
        events.onerror = tell(false);
      }),
    url,
  );
}

/** Whether a WebSocket gets its connection. */
function connects(page: Page, url: string): Promise<boolean> {
  return page.evaluate(
    (url) =>
      new Promise<boolean>((resolve) => {
        const socket = new WebSocket(url, "mcp");
        socket.onopen = () => resolve(true);
        socket.onclose = () => resolve(false);
      }),
    url,
  );
}
