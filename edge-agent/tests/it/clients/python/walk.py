"""What every client does with the edge, whatever SDK it is made with.

An adapter beside this file gives `main` a `connect(edge, api_key)`: an async context manager of a client with

    revision                     the protocol revision that was agreed on
    tools()                      {name: (input schema, output schema)}
    call(tool, arguments)        (is error, structured content, text)
    resources() and read(uri)    the URIs; a text
    updates(uri)                 an async context manager of a function that waits for the next update
"""

import argparse
import asyncio
import json
import os
import sys
import traceback
from dataclasses import dataclass

ACTIVE = "grants://active"
TOOLS = ["request_permission", "permission_status", "renew_permission", "validate_token", "revoke_token",
         "register_agent", "deregister_agent", "heartbeat", "discover_agents",
         "blackboard_read", "blackboard_write", "blackboard_delete", "blackboard_list", "blackboard_transaction",
         "lock_acquire", "lock_renew", "lock_release",
         "request_allocation", "report_spending", "budget_status"]
SHARED, SHARED_KEY = "blackboard://strong/walk%2Fa%20b", "walk/a b"
ASKING = {"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": "Q4 analysis task"}
UNKNOWN_KEY = "agk_0000000000000000000001_0000000000000000000000000000000000000000001"
PATIENCE_SECONDS = 30


@dataclass
class Edge:
    """Where the edge is, and how to speak with it."""

    url: str
    websocket: str
    edge_agent: str
    socket: str
    transport: str
    revision: str

    def bridge(self, api_key):
        """The program to start, where the transport is stdio."""
        return {
            "command": self.edge_agent,
            "args": ["stdio", "--socket", self.socket],
            "env": {"AUTHGUARDIAN_API_KEY": api_key},
        }


def main(connect, told_of_401):
    """`told_of_401` is what the SDK makes of an HTTP status, for each transport over HTTP; over stdio, the edge's own
    words arrive."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=[*told_of_401, "stdio"], required=True)
    for name in ["--revision", "--websocket", "--edge-agent", "--socket"]:
        parser.add_argument(name, required=True)
    edge = Edge(url=os.environ["AUTHGUARDIAN_EDGE_URL"], **vars(parser.parse_args()))
    refusal = told_of_401.get(edge.transport, "this API key is not known here")
    asyncio.run(walk(connect, edge, os.environ["AUTHGUARDIAN_API_KEY"], refusal))


async def walk(connect, edge, api_key, refusal):
    async with connect(edge, api_key) as client:
        assert client.revision == edge.revision, client.revision
        await finds_its_way(client)
        async with client.updates(ACTIVE) as updated:
            await lives_through_a_grant(client, lambda: asyncio.wait_for(updated(), PATIENCE_SECONDS))
        await shares_a_blackboard(client)
        await is_told_of_errors(client)
        await calls_side_by_side(client)
        await gives_up_a_call(client)
    await is_refused_with_a_wrong_key(connect, edge, refusal)


async def finds_its_way(client):
    tools = await client.tools()
    assert list(tools) == TOOLS, tools
    for name, (takes, gives) in tools.items():
        assert takes["type"] == gives["type"] == "object", name
        assert takes["required"] or name in ["discover_agents", "blackboard_list"], name
        for field in [*takes["properties"].values(), *gives["properties"].values()]:
            assert field["description"], name
    assert await client.resources() == [ACTIVE, "grants://audit", "agents://registry"]


async def lives_through_a_grant(client, updated):
    granted = await result(client, "request_permission", ASKING)
    assert (granted["decision"], granted["score"]) == ("granted", 570), granted
    await updated()
    assert await active(client) == [granted["grant_id"]]

    check = {"token": granted["token"], "agent_id": "data_analyst", "resource_type": "SAP_API"}
    assert (await result(client, "validate_token", check))["valid"] is True
    status = await result(client, "permission_status", {"grant_id": granted["grant_id"]})
    assert (status["decision"], status["grant_id"]) == ("granted", granted["grant_id"]), status

    renewed = await result(client, "renew_permission", {"token": granted["token"], "ttl_seconds": 600})
    assert renewed["grant_id"] == granted["grant_id"], renewed
    assert renewed["expires_at"] > granted["expires_at"], renewed
    await updated()

    revoked = await result(client, "revoke_token", {"token": renewed["token"]})
    assert (revoked["revoked"], revoked["grant_id"]) == (True, granted["grant_id"]), revoked
    await updated()
    for token in [granted["token"], renewed["token"]]:
        refused = await result(client, "validate_token", check | {"token": token})
        assert (refused["valid"], refused["reason"]) == (False, "GRANT_REVOKED"), refused
    assert await active(client) == []


async def shares_a_blackboard(client):
    value = {"text": "für 売上 🚀", "list": [1, 2.5, None]}
    written = None
    async with client.updates(SHARED) as updated:
        written = await result(client, "blackboard_write", {"board": "strong", "key": SHARED_KEY, "value": value})
        await asyncio.wait_for(updated(), PATIENCE_SECONDS)
        shown = json.loads(await client.read(SHARED))
        assert (shown["value"], shown["revision"]) == (value, written["revision"]), shown
    read = await result(client, "blackboard_read", {"board": "strong", "key": SHARED_KEY})
    assert (read["value"], read["writer"]) == (value, "data_analyst"), read
    late = {"board": "strong", "key": SHARED_KEY, "value": 1, "if_revision": written["previous_revision"]}
    is_error, problem, _ = await client.call("blackboard_write", late)
    assert is_error and problem["reason"] == "REVISION_CONFLICT", problem


async def is_told_of_errors(client):
    for wrong, reason, field in [
        ({"agent_id": "orchestrator"}, "AGENT_MISMATCH", "agent_id"),
        ({"ttl_seconds": 0}, "INVALID_ARGUMENT", "ttl_seconds"),
    ]:
        is_error, problem, text = await client.call("request_permission", ASKING | wrong)
        assert is_error, problem
        assert (problem["reason"], problem["field"]) == (reason, field), problem
        assert problem["detail"] and json.loads(text) == problem


async def calls_side_by_side(client):
    grants = await asyncio.gather(*(result(client, "request_permission", ASKING) for _ in range(16)))
    ids = {grant["grant_id"] for grant in grants}
    assert len(ids) == 16, grants
    assert set(await active(client)) == ids
    await asyncio.gather(*(result(client, "revoke_token", {"token": grant["token"]}) for grant in grants))
    assert await active(client) == []


async def gives_up_a_call(client):
    """The test holds up the control plane, so that the call would not end by itself."""
    await agree("hold the next call")
    call = asyncio.create_task(client.call("request_permission", ASKING))
    await agree("is it held?")
    assert not call.done(), call
    call.cancel()
    try:
        await asyncio.wait_for(call, PATIENCE_SECONDS)
        raise AssertionError("the call was not cancelled")
    except asyncio.CancelledError:
        pass
    # the connection is as good as before, while the call is still held
    assert list(await client.tools()) == TOOLS
    await agree("let go")
    assert (await result(client, "request_permission", ASKING))["decision"] == "granted"


async def is_refused_with_a_wrong_key(connect, edge, refusal):
    try:
        async with connect(edge, UNKNOWN_KEY) as client:
            await client.tools()
    except Exception as refused:
        told = "".join(traceback.format_exception(refused))
        assert refusal in told, told
    else:
        raise AssertionError("a wrong key was let in")


async def result(client, tool, arguments):
    is_error, structured, text = await client.call(tool, arguments)
    assert not is_error, structured
    assert json.loads(text) == structured
    return structured


async def active(client):
    return [grant["grant_id"] for grant in json.loads(await client.read(ACTIVE))["grants"]]


async def agree(line):
    """Tells the test something, and waits until it has done it."""
    print(line, flush=True)
    heard = await asyncio.to_thread(sys.stdin.readline)
    assert heard == "done\n", heard
