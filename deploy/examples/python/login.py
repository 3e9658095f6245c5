"""Logs in by signing a nonce, so that the API key never leaves this process, and asks for a permission.

    pip install cryptography==50.0.2
    export AUTHGUARDIAN_EDGE_URL=http://127.0.0.1:3001 AUTHGUARDIAN_API_KEY=agk_…
    python login.py

With a key that was registered by its public half (`control-plane api-key create --public-key-file`), set
AUTHGUARDIAN_API_KEY_ID=apk_… and AUTHGUARDIAN_PRIVATE_KEY_FILE=key.pem instead of AUTHGUARDIAN_API_KEY. For an edge
with a certificate of its own, AUTHGUARDIAN_EDGE_CA_FILE is who vouches for it.
"""

import base64
import json
import os
import ssl
import sys
import urllib.error
import urllib.request

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CONTEXT = b"authguardian-login-v1\0"


def main():
    key_id, key = credential()
    challenge = edge("POST", "/auth/challenge", {"api_key_id": key_id})
    nonce = base64.b64decode(challenge["nonce"])
    # what is signed is put together here: a signature is given for a login, and for nothing else
    signature = base64.b64encode(key.sign(CONTEXT + nonce)).decode()
    login = {"api_key_id": key_id, "nonce": challenge["nonce"], "signature": signature}
    session = edge("POST", "/auth/session", login)
    print("logged in for:", ", ".join(session["agent_ids"]))
    print("from the zone:", session["zone"])

    # a session lives for 15 minutes; renewed in time, for 12 hours
    token = edge("POST", "/auth/session/renew", token=session["session_token"])["session_token"]
    ask = {"agent_id": session["agent_ids"][0], "resource_type": "SAP_API", "justification": "Q4 analysis task"}
    decision = edge("POST", "/mcp/tools/request_permission", ask, token)
    print("asked for a permission:", decision["decision"])
    if decision["decision"] == "granted":
        revoked = edge("POST", "/mcp/tools/revoke_token", {"token": decision["token"]}, token)
        print("given back:", revoked["revoked"])

    edge("DELETE", "/auth/session", token=token)
    print("logged out")


def credential():
    """The key's id, and the key."""
    pem_file = os.environ.get("AUTHGUARDIAN_PRIVATE_KEY_FILE")
    if pem_file:
        with open(pem_file, "rb") as pem:
            return os.environ["AUTHGUARDIAN_API_KEY_ID"], load_pem_private_key(pem.read(), password=None)
    prefix, key_id, seed = os.environ["AUTHGUARDIAN_API_KEY"].split("_")
    if prefix != "agk":
        sys.exit("AUTHGUARDIAN_API_KEY is no API key: expected agk_…")
    return f"apk_{key_id}", Ed25519PrivateKey.from_private_bytes(base62(seed))


def base62(text):
    """32 bytes from 43 digits."""
    number = 0
    for digit in text:
        number = number * 62 + DIGITS.index(digit)
    return number.to_bytes(32, "big")


def edge(method, path, body=None, token=None):
    """What the edge answers; where it refuses, the program ends with its reason."""
    request = urllib.request.Request(os.environ["AUTHGUARDIAN_EDGE_URL"] + path, method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    try:
        with OPENER.open(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")
    except urllib.error.HTTPError as refused:
        problem = json.loads(refused.read())
        sys.exit(f"{problem['reason']}: {problem['detail']}")


# no proxy: credentials are between this program and the edge
OPENER = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPSHandler(
        context=ssl.create_default_context(cafile=os.environ.get("AUTHGUARDIAN_EDGE_CA_FILE"))
    ),
)

if __name__ == "__main__":
    main()
