"""One grant from request to revocation, with the official MCP client."""

import argparse
import asyncio
import json
import os

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ResourceUpdatedNotification

ACTIVE = "grants://active"
TOOLS = ["request_permission", "permission_status", "renew_permission", "validate_token", "revoke_token"]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["auto", "legacy"], required=True)
    parser.add_argument("--transport", choices=["http", "stdio"], required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--edge-agent", required=True)
    parser.add_argument("--socket", required=True)
    return parser.parse_args()


def server(args, api_key):
    if args.transport == "stdio":
        return StdioServerParameters(
            command=args.edge_agent,
            args=["stdio", "--socket", args.socket],
            env={"AUTHGUARDIAN_API_KEY": api_key},
        )
    headers = {"Authorization": f"Bearer {api_key}"}
    return streamable_http_client(args.url, http_client=httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False))


async def call(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def active(client):
    read = await client.read_resource(ACTIVE)
    return [grant["grant_id"] for grant in json.loads(read.contents[0].text)["grants"]]


async def walk(client, updated):
    """`updated` waits for a notification about the active grants."""
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == TOOLS, tools
    resources = (await client.list_resources()).resources
    assert [str(resource.uri) for resource in resources] == [ACTIVE, "grants://audit"], resources

    granted = await call(
        client,
        "request_permission",
        agent_id="data_analyst",
        resource_type="SAP_API",
        justification="Q4 analysis task",
    )
    assert (granted["decision"], granted["score"]) == ("granted", 570), granted
    await updated()
    assert await active(client) == [granted["grant_id"]]

    check = {"token": granted["token"], "agent_id": "data_analyst", "resource_type": "SAP_API"}
    assert (await call(client, "validate_token", **check))["valid"] is True
    revoked = await call(client, "revoke_token", token=granted["token"])
    assert revoked["revoked"] is True and revoked["grant_id"] == granted["grant_id"], revoked
    await updated()
    refused = await call(client, "validate_token", **check)
    assert (refused["valid"], refused["reason"]) == (False, "GRANT_REVOKED"), refused
    assert await active(client) == []

    foreign = await client.call_tool(
        "request_permission",
        {"agent_id": "orchestrator", "resource_type": "SAP_API", "justification": "Q4 analysis task"},
    )
    assert foreign.is_error and foreign.structured_content["reason"] == "AGENT_MISMATCH", foreign


async def with_session(args, api_key):
    updates = asyncio.Queue()

    async def heard(message):
        if isinstance(message, ResourceUpdatedNotification) and str(message.params.uri) == ACTIVE:
            updates.put_nowait(message)

    async with Client(server(args, api_key), mode="legacy", message_handler=heard) as client:
        assert client.protocol_version == "2025-11-25", client.protocol_version
        await client.subscribe_resource(ACTIVE)
        await walk(client, lambda: asyncio.wait_for(updates.get(), 30))


async def without_session(args, api_key):
    async with Client(server(args, api_key), mode="auto") as client:
        assert client.protocol_version == "2026-07-28", client.protocol_version
        async with client.listen(resource_subscriptions=[ACTIVE]) as subscription:
            assert subscription.honored.resource_subscriptions == [ACTIVE], subscription.honored
            events = aiter(subscription)
            await walk(client, lambda: asyncio.wait_for(anext(events), 30))


def main():
    args = arguments()
    api_key = os.environ["AUTHGUARDIAN_API_KEY"]
    asyncio.run((with_session if args.mode == "legacy" else without_session)(args, api_key))
    print("ok")


main()
