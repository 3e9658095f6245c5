"""The walk with `mcp` 1, which knows revisions with sessions only."""

import asyncio
from contextlib import asynccontextmanager

import anyio
import httpx
from mcp import ClientSession, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.websocket import websocket_client
from mcp.types import ResourceUpdatedNotification, ServerNotification

import walk


@asynccontextmanager
async def connect(edge, api_key):
    updates = asyncio.Queue()

    async def heard(message):
        if isinstance(message, ServerNotification) and isinstance(message.root, ResourceUpdatedNotification):
            updates.put_nowait(str(message.root.params.uri))

    walked = False
    try:
        async with streams(edge, api_key) as (incoming, outgoing):
            async with ClientSession(incoming, outgoing, message_handler=heard) as session:
                yield Adapter(session, updates, await session.initialize())
                walked = True
    # A flaw of this SDK: the session goes before what reads for it from the server, whose next message then finds
    # nobody to take it. Each of its four transports lets that out of its group of tasks (stdio and WebSocket do not
    # catch it, SSE and Streamable HTTP hand it to the session, which is gone). It says nothing of a walk that is through.
    except* anyio.BrokenResourceError:
        if not walked:
            raise


@asynccontextmanager
async def streams(edge, api_key):
    headers = {"Authorization": f"Bearer {api_key}"}
    match edge.transport:
        case "http":
            async with httpx.AsyncClient(headers=headers) as http:
                async with streamable_http_client(f"{edge.url}/mcp", http_client=http) as (incoming, outgoing, _):
                    yield incoming, outgoing
        case "sse":
            async with sse_client(f"{edge.url}/sse", headers=headers) as both:
                yield both
        case "ws":
            # it takes a URL and nothing else
            async with websocket_client(edge.websocket.replace("://", f"://data_analyst:{api_key}@")) as both:
                yield both
        case "stdio":
            async with stdio_client(StdioServerParameters(**edge.bridge(api_key))) as both:
                yield both


class Adapter:
    def __init__(self, session, updates, initialized):
        self.session = session
        self.heard = updates
        self.revision = initialized.protocolVersion

    async def tools(self):
        return {tool.name: (tool.inputSchema, tool.outputSchema) for tool in (await self.session.list_tools()).tools}

    async def call(self, tool, arguments):
        result = await self.session.call_tool(tool, arguments)
        return result.isError, result.structuredContent, result.content[0].text

    async def resources(self):
        return [str(resource.uri) for resource in (await self.session.list_resources()).resources]

    async def read(self, uri):
        return (await self.session.read_resource(uri)).contents[0].text

    @asynccontextmanager
    async def updates(self, uri):
        await self.session.subscribe_resource(uri)
        yield self.heard.get
        await self.session.unsubscribe_resource(uri)


walk.main(connect, told_of_401={"http": "401 Unauthorized", "sse": "401 Unauthorized", "ws": "HTTP 401"})
