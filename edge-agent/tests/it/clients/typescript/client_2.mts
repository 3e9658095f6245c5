// The walk with `@modelcontextprotocol/client`: one client for the revisions with and without sessions.

import { EventEmitter, on } from "node:events";

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

import * as walk from "./walk.mts";

await walk.main(async (edge, apiKey) => {
  const sessionless = edge.revision >= "2026";
  const client = new Client(
    { name: "walk", version: "1" },
    sessionless ? { versionNegotiation: { mode: "auto" } } : { supportedProtocolVersions: [edge.revision] },
  );
  const updates = new EventEmitter();
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => {
    updates.emit(params.uri);
  });
  await client.connect(transportTo(edge, apiKey));
  return {
    revision: client.getNegotiatedProtocolVersion(),
    tools: async () => (await client.listTools()).tools,
    call: (name, args, signal) => client.callTool({ name, arguments: args }, signal && { signal }),
    resources: async () => (await client.listResources()).resources.map((resource) => resource.uri),
    read: async (uri) => ((await client.readResource({ uri })).contents[0] as { text: string }).text,
    follow: async (uri) => {
      const heard = on(updates, uri);
      if (!sessionless) {
        await client.subscribeResource({ uri });
        return { next: () => heard.next(), close: () => client.unsubscribeResource({ uri }) };
      }
      const subscription = await client.listen({ resourceSubscriptions: [uri] });
      return { next: () => heard.next(), close: () => subscription.close() };
    },
    close: () => client.close(),
  };
});

function transportTo(edge: walk.Edge, apiKey: string) {
  const requestInit = { headers: walk.bearer(apiKey) };
  switch (edge.transport) {
    case "http":
      return new StreamableHTTPClientTransport(new URL("/mcp", edge.url), { requestInit });
    case "sse":
      return new SSEClientTransport(new URL("/sse", edge.url), { requestInit });
    case "stdio":
      return new StdioClientTransport(walk.bridge(edge, apiKey));
    case "ws":
      throw new Error("it has no WebSocket");
  }
}
