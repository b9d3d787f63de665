#!/usr/bin/env python3
"""Makes the test vectors of the pipeline's stages, without any code of this project.

    python3 -m venv venv && venv/bin/pip install cryptography
    venv/bin/python generate.py            # writes the files next to this script
    venv/bin/python generate.py --check    # fails when a file is not what the script makes

Everything is made from fixed labels, so that each run gives the same files.
"""

import hashlib
import json
import pathlib
import struct
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HERE = pathlib.Path(__file__).parent

CIPHERS = {"aes-256-gcm": AESGCM, "chacha20-poly1305": ChaCha20Poly1305}
DIRECTIONS = ("c2s", "s2c")


def sample(label, length):
    """Bytes that look random and are the same in each run."""
    return hashlib.shake_256(b"msgi1 vectors " + label.encode()).digest(length)


def derive(secret, salt, stage, direction):
    info = f"msgi1 {stage} {direction}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)


def encrypt(stage, key, key_id, count, transcript, message):
    nonce = bytes(4) + struct.pack(">Q", count)
    associated = transcript if count == 0 else struct.pack(">Q", count)
    sealed = CIPHERS[stage](key).encrypt(nonce, message, associated)
    return nonce, associated, struct.pack(">I", key_id) + sealed


def messages():
    """Messages in the order in which they are sent."""
    return [b"hello", b"", b"\x00", "naïve ☃".encode(), sample("block", 16), sample("long", 257)]


def link(stage, secrets, salts, transcript, has_salt, plan):
    """All frames of both directions; `plan` lists key ids and counts in the order of sending."""
    directions = {}
    for direction in DIRECTIONS:
        keys = {
            key_id: derive(secret, salts[direction], stage, direction)
            for key_id, secret in secrets.items()
        }
        frames = []
        for position, (key_id, count) in enumerate(plan):
            message = messages()[position % len(messages())]
            nonce, associated, frame = encrypt(
                stage, keys[key_id], key_id, count, transcript, message
            )
            if has_salt and position == 0:
                frame = salts[direction] + frame
            frames.append(
                {
                    "key_id": key_id,
                    "count": count,
                    "nonce": nonce.hex(),
                    "associated_data": associated.hex(),
                    "message": message.hex(),
                    "frame": frame.hex(),
                }
            )
        directions[direction] = {
            "salt": salts[direction].hex(),
            "keys": {str(key_id): key.hex() for key_id, key in keys.items()},
            "frames": frames,
        }
    return directions


# In order, with two changes of the key and a return to the first.
PLAN = [(1, 0), (1, 1), (1, 2), (4294967295, 0), (4294967295, 1), (1, 3), (0, 0), (0, 1)]
# Each by itself: what a receiver that has got so far takes next.
FAR = [(1, count) for count in (255, 256, 65_535, 65_536, 2**31, 2**32 - 1)]


def encryption():
    secrets = {1: sample("secret 1", 32), 4294967295: sample("secret max", 16), 0: sample("secret 0", 64)}
    client_nonce, server_nonce = sample("client nonce", 16), sample("server nonce", 16)
    cases = []
    for stage in CIPHERS:
        hello = json.dumps(
            {"op": "hello", "version": 1, "nonce": client_nonce.hex(), "pipeline": [stage]},
            separators=(",", ":"),
        )
        # Spaces and a field that nobody knows: the bytes count, not what they mean.
        welcome = json.dumps(
            {"op": "welcome", "x": "ü", "nonce": server_nonce.hex(), "pipeline": [stage]},
            ensure_ascii=False,
        )
        transcript = hashlib.sha256(hello.encode() + welcome.encode()).digest()
        both = client_nonce + server_nonce
        salts = {direction: both for direction in DIRECTIONS}
        common = {"stage": stage, "secrets": {str(k): v.hex() for k, v in secrets.items()}}
        with_hello = {
            "hello": hello,
            "welcome": welcome,
            "client_nonce": client_nonce.hex(),
            "server_nonce": server_nonce.hex(),
            "transcript": transcript.hex(),
        }
        for name, plan in (("in order", PLAN), ("far", FAR)):
            cases.append(
                {
                    "name": f"{stage}, with hello, {name}",
                    **common,
                    "in_order": plan is PLAN,
                    "handshake": with_hello,
                    "directions": link(stage, secrets, salts, transcript, False, plan),
                }
            )
        salts = {direction: sample(f"salt {direction}", 32) for direction in DIRECTIONS}
        nothing = hashlib.sha256(b"").digest()
        cases.append(
            {
                "name": f"{stage}, without hello, in order",
                **common,
                "in_order": True,
                "handshake": None,
                "directions": link(stage, secrets, salts, nothing, True, PLAN),
            }
        )
    return {"cases": cases}


FILES = {"encryption.json": encryption}


def main():
    check = "--check" in sys.argv[1:]
    for name, make in FILES.items():
        text = json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
        path = HERE / name
        if not check:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            sys.exit(f"{name} is not what this script makes")


if __name__ == "__main__":
    main()
