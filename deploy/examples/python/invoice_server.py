"""A resource that lets in who has a permission for it: GET /invoices with a grant token as the bearer token.

    pip install 'pyjwt[crypto]'
    export AUTHGUARDIAN_EDGE_URL=http://127.0.0.1:3001 AUTHGUARDIAN_API_KEY=agk_…
    export AUTHGUARDIAN_JWKS_URL=http://127.0.0.1:3000/.well-known/jwks.json
    python invoice_server.py [PORT]

Its API key needs the right to check other agents' tokens: `control-plane api-key create --name invoices --agent
invoice_server --validator`.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import jwt

RESOURCE_TYPE = "SAP_API"
EDGE_URL, API_KEY = os.environ["AUTHGUARDIAN_EDGE_URL"], os.environ["AUTHGUARDIAN_API_KEY"]
KEYS = jwt.PyJWKClient(os.environ.get("AUTHGUARDIAN_JWKS_URL", "http://127.0.0.1:3000/.well-known/jwks.json"))


def check_offline(token):
    """Who holds the token and what it allows. Costs no call, and sees no revocation."""
    if jwt.get_unverified_header(token).get("typ") != "grant+jwt":
        raise jwt.InvalidTokenError("this is no grant token")
    return jwt.decode(
        token,
        KEYS.get_signing_key_from_jwt(token),
        algorithms=["EdDSA"],
        audience=RESOURCE_TYPE,
        options={"require": ["exp", "aud", "sub", "jti"]},
    )


def check_at_edge(token, agent_id):
    """What the edge on this machine says: it hears of revocations as they happen."""
    question = {"token": token, "agent_id": agent_id, "resource_type": RESOURCE_TYPE}
    request = Request(
        f"{EDGE_URL}/mcp/tools/validate_token",
        data=json.dumps(question).encode(),
        headers={"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=5) as answer:
        return json.load(answer)


class Invoices(BaseHTTPRequestHandler):
    def do_GET(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return self.answer(401, {"error": "show a grant token"})
        try:
            grant = check_offline(token)
        except jwt.PyJWTError as error:
            return self.answer(401, {"error": str(error)})
        check = check_at_edge(token, grant["sub"])
        if not check["valid"]:
            return self.answer(403, {"error": check["reason"]})
        self.answer(200, {"invoices": ["Q4-1", "Q4-2"], "restrictions": grant["restrictions"]})

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080), Invoices)
print(f"http://127.0.0.1:{server.server_port}/invoices", flush=True)
server.serve_forever()
