// The same as agent.ts with the SDK of before revision 2026-07-28, which many programs still use.
//
//   npm install @modelcontextprotocol/sdk@1.32.2
//   export AUTHGUARDIAN_EDGE_URL=http://127.0.0.1:3001 AUTHGUARDIAN_API_KEY=agk_…
//   node agent-sdk-1.ts

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { AUTHGUARDIAN_EDGE_URL: edgeUrl, AUTHGUARDIAN_API_KEY: apiKey } = process.env;
const identity = { agent_id: "data_analyst", resource_type: "SAP_API" };

const edge = new Client({ name: "example", version: "1.0.0" });
const transport = new StreamableHTTPClientTransport(new URL("/mcp", edgeUrl), {
  requestInit: { headers: { Authorization: `Bearer ${apiKey}` } },
});
await edge.connect(transport);
console.log(`connected with revision ${transport.protocolVersion}`);

try {
  const decision = await call("request_permission", {
    ...identity,
    justification: "Q4 analysis task",
    ttl_seconds: 120,
  });
  if (decision.decision !== "granted") {
    throw new Error(`denied: ${decision.reasons}`);
  }
  console.log(`granted until ${decision.expires_at}, restricted to ${decision.restrictions}`);

  const token = decision.token; // goes with each request to the resource: `Authorization: Bearer …`
  const check = await call("validate_token", { ...identity, token });
  console.log(`the token is good: ${check.valid}`);

  await call("revoke_token", { token });
  console.log("given back");
} finally {
  await transport.terminateSession();
  await edge.close();
}

async function call(name: string, args: Record<string, unknown>): Promise<Record<string, any>> {
  const result = await edge.callTool({ name, arguments: args });
  if (result.isError) {
    // {"reason": …, "detail": …, "field": …}: a word for programs, a sentence for people, the argument at fault
    throw new Error(`${name} failed: ${JSON.stringify(result.structuredContent)}`);
  }
  return result.structuredContent as Record<string, any>;
}
