// The walk with `@modelcontextprotocol/sdk`, which knows revisions with sessions only.

import { EventEmitter, on } from "node:events";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

import * as walk from "./walk.mts";

await walk.main(async (edge, apiKey) => {
  const client = new Client({ name: "walk", version: "1" });
  const updates = new EventEmitter();
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => {
    updates.emit(params.uri);
  });
  const transport = await transportTo(edge, apiKey);
  // the client tells nobody but its transport
  let revision: string | undefined;
  const setProtocolVersion = transport.setProtocolVersion?.bind(transport);
  transport.setProtocolVersion = (version) => {
    revision = version;
    setProtocolVersion?.(version);
  };
  await client.connect(transport);
  return {
    revision,
    tools: async () => (await client.listTools()).tools,
    call: async (name, args, signal) =>
      (await client.callTool({ name, arguments: args }, undefined, signal && { signal })) as walk.Outcome,
    resources: async () => (await client.listResources()).resources.map((resource) => resource.uri),
    read: async (uri) => ((await client.readResource({ uri })).contents[0] as { text: string }).text,
    follow: async (uri) => {
      const heard = on(updates, uri);
      await client.subscribeResource({ uri });
      return { next: () => heard.next(), close: () => client.unsubscribeResource({ uri }) };
    },
    close: () => client.close(),
  };
});

async function transportTo(edge: walk.Edge, apiKey: string): Promise<Transport> {
  const requestInit = { headers: walk.bearer(apiKey) };
  switch (edge.transport) {
    case "http":
      return new StreamableHTTPClientTransport(new URL("/mcp", edge.url), { requestInit });
    case "sse":
      return new SSEClientTransport(new URL("/sse", edge.url), { requestInit });
    case "ws":
      // it takes a URL and nothing else, and Node's WebSocket leaves out a name and a password in it
      return new WebSocketClientTransport(new URL(`/ws?ticket=${await walk.ticket(edge, apiKey)}`, edge.websocket));
    case "stdio":
      return new StdioClientTransport(walk.bridge(edge, apiKey));
  }
}
