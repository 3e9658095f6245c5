"""Checks what `control-plane audit export`, `prove` and `consistency` write.

Shares no code with what it checks: written from RFC 6962 (the tree and its
proofs), RFC 8032 (Ed25519), RFC 8785 (canonical JSON) and C2SP (signed-note,
tlog-checkpoint), with nothing but Python's standard library.

    verify_export.py export FILE [--checkpoint FILE] [--key VERIFIER_KEY]...
    verify_export.py proof FILE [--checkpoint FILE] [--key VERIFIER_KEY]...

Says one sentence, and exits with 0 when everything fits, with 1 when not.
"""

import argparse
import base64
import binascii
import hashlib
import json
import sys


class Misfit(Exception):
    """What does not fit, in one sentence."""


def require(condition, sentence):
    if not condition:
        raise Misfit(sentence)


def sha256(data):
    return hashlib.sha256(data).digest()


def from_base64(text, what):
    require(isinstance(text, str), f"{what} is no text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Misfit(f"{what} is no base64") from None
    require(to_base64(data) == text, f"{what} is no base64 as it is usually written")
    return data


def to_base64(data):
    return base64.b64encode(data).decode()


def digest_of(text, what):
    data = from_base64(text, what)
    require(len(data) == 32, f"{what} has {len(data)} bytes instead of 32")
    return data


# --- JSON: RFC 8785 ---------------------------------------------------------


def parse(text, what):
    def once(pairs):
        names = [name for name, _ in pairs]
        require(len(set(names)) == len(names), f"{what} has a name twice")
        return dict(pairs)

    def no_number(text):
        raise Misfit(f"{what} has {text} as a number")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except (ValueError, RecursionError):
        raise Misfit(f"{what} is no JSON") from None


def canonical(value):
    """Objects of texts and whole numbers are all that there is in a leaf."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        members = (f"{canonical(name)}:{canonical(value[name])}" for name in names)
        return "{" + ",".join(members) + "}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    require(type(value) is int, "an entry has a value that is neither text nor whole number")
    return str(value)


def utf8(text, what):
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Misfit(f"{what} has half of a surrogate pair") from None


# --- The tree: RFC 6962, 2.1 ------------------------------------------------


def leaf_hash(leaf):
    return sha256(b"\x00" + leaf)


def node_hash(left, right):
    return sha256(b"\x01" + left + right)


def split(size):
    """The largest power of two below a size of 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)


class Tree:
    """Grows leaf by leaf: keeps the roots of the full subtrees it consists of."""

    def __init__(self):
        self.size = 0
        self.peaks = []  # (leaves, root), the largest first

    def append(self, hashed):
        self.size += 1
        self.peaks.append((1, hashed))
        while len(self.peaks) > 1 and self.peaks[-2][0] == self.peaks[-1][0]:
            leaves, right = self.peaks.pop()
            _, left = self.peaks.pop()
            self.peaks.append((2 * leaves, node_hash(left, right)))

    def root(self):
        if not self.peaks:
            return sha256(b"")
        root = self.peaks[-1][1]
        for _, left in reversed(self.peaks[:-1]):
            root = node_hash(left, root)
        return root


def root_by_inclusion(index, size, hashed, path):
    """The root that PATH(index, D[size]) leads to from a leaf (2.1.1)."""
    if size == 1:
        require(not path, "the path is too long")
        return hashed
    require(path, "the path is too short")
    half, (*below, last) = split(size), path
    if index < half:
        return node_hash(root_by_inclusion(index, half, hashed, below), last)
    return node_hash(last, root_by_inclusion(index - half, size - half, hashed, below))


def roots_by_consistency(old, new, old_root, path):
    """The roots of both sizes that PROOF(old, D[new]) leads to (2.1.2)."""

    def subproof(old, new, whole, path):
        if old == new:
            if whole:
                require(not path, "the path is too long")
                return old_root, old_root
            require(len(path) == 1, "the path has another length")
            return path[0], path[0]
        require(path, "the path is too short")
        half, (*below, last) = split(new), path
        if old <= half:
            first, second = subproof(old, half, whole, below)
            return first, node_hash(second, last)
        first, second = subproof(old - half, new - half, False, below)
        return node_hash(last, first), node_hash(last, second)

    return subproof(old, new, True, path)


# --- Ed25519: RFC 8032, 5.1 -------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def point(encoded):
    """Decodes a point to extended coordinates (5.1.3); `None`: it is none."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_OF_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def add(first, second):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = first, second
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * D * t1 * t2 % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(factor, base):
    product = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            product = add(product, base)
        base, factor = add(base, base), factor >> 1
    return product


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signed(public_key, message, signature):
    """Whether [S]B = R + [k]A (5.1.7)."""
    if len(signature) != 64:
        return False
    r, s = point(signature[:32]), int.from_bytes(signature[32:], "little")
    a = point(public_key)
    if r is None or a is None or s >= ORDER:
        return False
    k = hashlib.sha512(signature[:32] + public_key + message).digest()
    k = int.from_bytes(k, "little") % ORDER
    (x1, y1, z1, _), (x2, y2, z2, _) = times(s, BASE), add(r, times(k, a))
    return (x1 * z2 - x2 * z1) % P == 0 and (y1 * z2 - y2 * z1) % P == 0


# --- Signed notes and checkpoints: C2SP -------------------------------------


def verifier_key(text):
    """(name, key id, public key) of `<name>+<key id>+<base64>`."""
    require(isinstance(text, str), "a verifier key is no text")
    name, _, rest = text.strip().partition("+")
    key_id, _, key = rest.partition("+")
    key = from_base64(key, f"the verifier key `{text}`")
    require(is_name(name) and len(key) == 33 and key[0] == 1, f"`{text}` is no verifier key")
    expected = sha256(name.encode() + b"\n" + key)[:4]
    require(key_id == expected.hex(), f"the key id of `{text}` is not that of the key")
    return name, expected, key[1:]


def is_name(name):
    return name != "" and "+" not in name and not any(c.isspace() for c in name)


class Checkpoint:
    """A checkpoint, once one of the keys is seen to have signed it."""

    def __init__(self, note, keys, what):
        require(isinstance(note, str), f"{what} is no text")
        utf8(note, what)
        controls = any(c < " " and c != "\n" for c in note)
        require(not controls, f"{what} has control characters")
        text, blank, signatures = note.rpartition("\n\n")
        require(blank and signatures.endswith("\n"), f"{what} is no signed note")
        text += "\n"
        lines = [signature_of(line, what) for line in signatures[:-1].split("\n")]
        self.read(text, what)
        verified = False
        for name, key_id, signature in lines:
            for known_name, known_id, public_key in keys:
                if (name, key_id) == (known_name, known_id):
                    good = is_signed(public_key, text.encode(), signature)
                    require(good, f"a signature of {what} is wrong")
                    verified |= name == self.origin
        require(verified, f"{what} is signed by none of the keys")

    def read(self, text, what):
        lines = text[:-1].split("\n")
        require(len(lines) >= 3 and all(lines), f"{what} has not three lines")
        self.origin, size, root = lines[:3]
        is_size = size.isascii() and size.isdigit() and (size == "0" or size[0] != "0")
        require(is_size and len(size) < 20, f"the size of {what} is no number")
        self.size, self.root = int(size), digest_of(root, f"the root of {what}")


def signature_of(line, what):
    dash, name, signature = (line.split(" ") + ["", "", ""])[:3]
    good = dash == "—" and is_name(name) and line.count(" ") == 2
    require(good, f"{what} has a line that is no signature")
    signature = from_base64(signature, f"a signature of {what}")
    require(len(signature) > 4, f"a signature of {what} is too short")
    return name, signature[:4], signature[4:]


# --- An export --------------------------------------------------------------


def check_export(path, outside, given_keys):
    tree, roots, end, origin, keys = Tree(), {}, None, None, []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"line {number}"
            require(line.endswith(b"\n"), f"{where} is torn")
            require(end is None, f"{where} stands after the checkpoint")
            try:
                text = line[:-1].decode()
            except UnicodeDecodeError:
                raise Misfit(f"{where} is no UTF-8") from None
            value = parse(text, where)
            require(isinstance(value, dict), f"{where} is no object")
            if number == 1:
                origin, keys = header(value, given_keys, where)
                outside = outside and Checkpoint(outside, keys, "the outside checkpoint")
            elif "checkpoint" in value:
                require(len(value) == 1, f"{where} has more than a checkpoint")
                end = Checkpoint(value["checkpoint"], keys, f"the checkpoint in {where}")
            else:
                tree.append(leaf_of(value, text, tree.size, where))
            if outside and tree.size == outside.size:
                roots.setdefault(tree.size, tree.root())
    require(origin is not None, "there is no line that names the log")
    if end:
        roots[tree.size] = tree.root()
        require(end.size == tree.size, f"{tree.size} entries, and a checkpoint of {end.size}")
    else:
        whole = outside and outside.size == tree.size
        require(whole, "there is no checkpoint at the end")
    for checkpoint, what in ((end, "the checkpoint at the end"), (outside, "the outside checkpoint")):
        if checkpoint:
            require(checkpoint.origin == origin, f"{what} is of another log")
            require(checkpoint.size in roots, f"{what} is of {checkpoint.size} entries, there are {tree.size}")
            require(checkpoint.root == roots[checkpoint.size], f"the root is not that of {what}")
    return f"{tree.size} entries of {origin} fit"


def header(value, given_keys, where):
    log = value.get("log")
    require(isinstance(log, dict), f"{where} does not name the log")
    good = (
        isinstance(log.get("origin"), str)
        and type(log.get("epoch")) is int
        and 0 <= log["epoch"] < 2**64
        and isinstance(log.get("begun_at"), str)
        and isinstance(log.get("verifier_keys"), list)
        and all(isinstance(key, str) for key in log["verifier_keys"])
    )
    require(good, f"{where} does not name the log")
    return log["origin"], [verifier_key(key) for key in given_keys or log["verifier_keys"]]


def leaf_of(value, text, expected_index, where):
    index = value.get("index")
    require(type(index) is int, f"{where} has no index")
    require(index == expected_index, f"{where} has index {index} instead of {expected_index}")
    if "entry" in value:
        require(isinstance(value["entry"], dict), f"the entry in {where} is no object")
        leaf = canonical(value["entry"])
        rendered, hashed = f'{{"index":{index},"entry":{leaf}}}', leaf_hash(utf8(leaf, where))
    else:
        hashed = digest_of(value.get("leaf_hash"), f"the leaf hash in {where}")
        rendered = f'{{"index":{index},"leaf_hash":"{to_base64(hashed)}"}}'
    require(rendered == text, f"{where} is not in the form of an export")
    return hashed


# --- A proof ----------------------------------------------------------------


def check_proof(path, outside, given_keys):
    with open(path, "rb") as file:
        text = file.read()
    try:
        proof = parse(text.decode(), "the proof")
    except UnicodeDecodeError:
        raise Misfit("the proof is no UTF-8") from None
    require(isinstance(proof, dict), "the proof is no object")
    own_keys = proof.get("verifier_keys")
    require(isinstance(own_keys, list), "the proof has no verifier keys")
    keys = [verifier_key(key) for key in given_keys or own_keys]
    checkpoint = Checkpoint(proof.get("checkpoint"), keys, "the checkpoint")
    require(checkpoint.origin == proof.get("origin"), "the checkpoint is of another log")
    kinds = {"inclusion": check_inclusion, "consistency": check_consistency}
    require(proof.get("proof") in kinds, "it is no proof of inclusion or consistency")
    known = kinds[proof["proof"]](proof, checkpoint)
    if outside:
        outside = Checkpoint(outside, keys, "the outside checkpoint")
        require(outside.origin == checkpoint.origin, "the outside checkpoint is of another log")
        require(outside.size in known, "the outside checkpoint is of another size")
        require(outside.root == known[outside.size], "the root is not that of the outside checkpoint")
    return f"the proof of {proof['proof']} in {checkpoint.origin} fits"


def check_inclusion(proof, checkpoint):
    index = number(proof, "index")
    require(index < checkpoint.size, "the checkpoint does not reach as far")
    hashed = digest_of(proof.get("leaf_hash"), "the leaf hash")
    require(("leaf" in proof) == ("entry" in proof), "a leaf goes with its entry")
    if "leaf" in proof:
        leaf = from_base64(proof["leaf"], "the leaf")
        require(leaf_hash(leaf) == hashed, "the leaf hash is not that of the leaf")
        require(isinstance(proof["entry"], dict), "the entry is no object")
        entry = utf8(canonical(proof["entry"]), "the entry")
        require(entry == leaf, "the entry is not that of the leaf")
    root = root_by_inclusion(index, checkpoint.size, hashed, hashes(proof, "path"))
    require(root == checkpoint.root, "the path does not lead to the root")
    return {checkpoint.size: checkpoint.root}


def check_consistency(proof, checkpoint):
    old, new = number(proof, "from_size"), number(proof, "to_size")
    old_root = digest_of(proof.get("from_root"), "the earlier root")
    new_root = digest_of(proof.get("to_root"), "the later root")
    require(1 <= old <= new <= checkpoint.size, "the sizes are not in order")
    roots = roots_by_consistency(old, new, old_root, hashes(proof, "path"))
    require(roots == (old_root, new_root), "the path does not lead from root to root")
    roots = roots_by_consistency(new, checkpoint.size, new_root, hashes(proof, "path_to_checkpoint"))
    require(roots == (new_root, checkpoint.root), "the path does not lead to the checkpoint")
    return {old: old_root, new: new_root, checkpoint.size: checkpoint.root}


def number(proof, name):
    require(type(proof.get(name)) is int and proof[name] >= 0, f"`{name}` is no size")
    return proof[name]


def hashes(proof, name):
    require(isinstance(proof.get(name), list), f"`{name}` is no list")
    return [digest_of(text, f"a hash of `{name}`") for text in proof[name]]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", choices=["export", "proof"])
    arguments.add_argument("file")
    arguments.add_argument("--checkpoint")
    arguments.add_argument("--key", action="append", default=[])
    given = arguments.parse_args()
    check = {"export": check_export, "proof": check_proof}[given.what]
    try:
        outside = None
        if given.checkpoint:
            with open(given.checkpoint, encoding="utf-8", newline="") as file:
                outside = file.read()
        print(check(given.file, outside, given.key))
    except (Misfit, UnicodeDecodeError) as misfit:
        print(f"does not fit: {misfit}")
        sys.exit(1)


if __name__ == "__main__":
    main()
