"""The walk with `mcp` 2: one client for the revisions with and without sessions."""

import asyncio
from contextlib import asynccontextmanager

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ResourceUpdatedNotification

import walk


@asynccontextmanager
async def connect(edge, api_key):
    updates = asyncio.Queue()

    async def heard(message):
        if isinstance(message, ResourceUpdatedNotification):
            updates.put_nowait(str(message.params.uri))

    mode = "auto" if edge.revision >= "2026" else "legacy"
    headers = {"Authorization": f"Bearer {api_key}"}
    async with httpx2.AsyncClient(headers=headers) as http:
        match edge.transport:
            case "http":
                server = streamable_http_client(f"{edge.url}/mcp", http_client=http)
            case "sse":
                server = sse_client(f"{edge.url}/sse", headers=headers)
            case "stdio":
                server = StdioServerParameters(**edge.bridge(api_key))
        async with Client(server, mode=mode, message_handler=heard) as client:
            yield Adapter(client, updates)


class Adapter:
    def __init__(self, client, updates):
        self.client = client
        self.heard = updates
        self.revision = client.protocol_version

    async def tools(self):
        return {tool.name: (tool.input_schema, tool.output_schema) for tool in (await self.client.list_tools()).tools}

    async def call(self, tool, arguments):
        result = await self.client.call_tool(tool, arguments)
        return result.is_error, result.structured_content, result.content[0].text

    async def resources(self):
        return [str(resource.uri) for resource in (await self.client.list_resources()).resources]

    async def read(self, uri):
        return (await self.client.read_resource(uri)).contents[0].text

    @asynccontextmanager
    async def updates(self, uri):
        if self.revision >= "2026":
            async with self.client.listen(resource_subscriptions=[uri]) as subscription:
                assert subscription.honored.resource_subscriptions == [uri], subscription.honored
                yield subscription.__anext__
        else:
            await self.client.subscribe_resource(uri)
            yield self.heard.get
            await self.client.unsubscribe_resource(uri)


walk.main(connect, told_of_401={"http": "Server returned an error response", "sse": "401 Unauthorized"})
