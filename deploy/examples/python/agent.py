"""An agent that asks for a permission, uses it, and gives it back.

    pip install mcp==2.3.0
    export AUTHGUARDIAN_EDGE_URL=http://127.0.0.1:3001 AUTHGUARDIAN_API_KEY=agk_…
    python agent.py [URL]

URL is what the permission is for, such as http://127.0.0.1:8080/invoices of invoice_server.py; without one, the agent
only looks whether its token is good.
"""

import asyncio
import os
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

AGENT_ID = "data_analyst"
RESOURCE_TYPE = "SAP_API"


async def main():
    edge_url, api_key = os.environ["AUTHGUARDIAN_EDGE_URL"], os.environ["AUTHGUARDIAN_API_KEY"]
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {api_key}"}, timeout=30)
    async with http, Client(streamable_http_client(f"{edge_url}/mcp", http_client=http)) as edge:
        decision = await call(
            edge,
            "request_permission",
            agent_id=AGENT_ID,
            resource_type=RESOURCE_TYPE,
            justification="Q4 analysis task",
            ttl_seconds=120,
        )
        if decision["decision"] != "granted":
            sys.exit(f"denied: {decision['reasons']}")
        print(f"granted until {decision['expires_at']}, restricted to {decision['restrictions']}")

        try:
            await use(edge, decision["token"])
        finally:
            await call(edge, "revoke_token", token=decision["token"])
            print("given back")


async def use(edge, token):
    if len(sys.argv) > 1:
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as resource:
            answer = await resource.get(sys.argv[1])
        print(f"the resource answered {answer.status_code}: {answer.text}")
        answer.raise_for_status()
    else:
        check = await call(edge, "validate_token", token=token, agent_id=AGENT_ID, resource_type=RESOURCE_TYPE)
        print(f"the token is good: {check['valid']}")


async def call(edge, tool, **arguments):
    result = await edge.call_tool(tool, arguments)
    if result.is_error:
        # {"reason": …, "detail": …, "field": …}: a word for programs, a sentence for people, the argument at fault
        sys.exit(f"{tool} failed: {result.structured_content}")
    return result.structured_content


asyncio.run(main())
