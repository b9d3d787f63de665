#!/usr/bin/env python3
"""Makes the test vectors of the pipeline's stages, without any code of this project.

    python3 -m venv venv && venv/bin/pip install cryptography lz4 zstandard
    venv/bin/python generate.py            # writes the files next to this script
    venv/bin/python generate.py --check    # fails when a file is not what the script makes

Everything is made from fixed labels, so that each run gives the same files. Compressed bytes are the exception: they
differ from version to version of the libraries, so the check decompresses them instead.
"""

import base64
import gzip
import hashlib
import hmac
import io
import json
import pathlib
import struct
import sys
import zlib

import lz4.block
import zstandard
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


# --- Compression ---

TEXT = "".join(f'{{"id":{i},"name":"station-{i * 7919 % 100}","ok":true}},' for i in range(30)).encode()
# A message is a pattern so many times.
SHRINKING = {
    "text": (TEXT, 1),
    "one byte": (b"x", 1_024),
    "not ASCII": ("naïve ☃ ".encode(), 100),
    "long": (TEXT, 60),
}
AS_THEY_ARE = [(b"", 1), (b"\x00", 1), (b"\x01", 1), (b"hello", 1), (sample("noise", 64), 1), (b"x", 1_023)]


def zstd_frame(message, level=3, size=True, checksum=False):
    compressor = zstandard.ZstdCompressor(
        level=level, write_content_size=size, write_checksum=checksum, write_dict_id=False
    )
    return compressor.compress(message)


def zstd_stream(message):
    """As an encoder makes it that does not know how long the message becomes: with a window of its own."""
    stream = zstandard.ZstdCompressor(level=3).compressobj()
    return stream.compress(message[:100]) + stream.compress(message[100:]) + stream.flush()


def gzip_member(message, level=6, name=""):
    output = io.BytesIO()
    with gzip.GzipFile(name, "wb", level, output, mtime=0) as member:
        member.write(message)
    return output.getvalue()


def deflated(message, level=6, window=15):
    stream = zlib.compressobj(level, zlib.DEFLATED, window)
    return stream.compress(message) + stream.flush()


COMPRESSORS = {
    "lz4": {
        "fast": lambda m: lz4.block.compress(m, store_size=False),
        "high": lambda m: lz4.block.compress(m, mode="high_compression", store_size=False),
    },
    "zstd": {
        "level 1": lambda m: zstd_frame(m, 1),
        "level 19": lambda m: zstd_frame(m, 19),
        "with checksum": lambda m: zstd_frame(m, checksum=True),
        "without length": lambda m: zstd_frame(m, size=False),
        "of a stream": zstd_stream,
    },
    "gzip": {
        "level 1": lambda m: gzip_member(m, 1),
        "level 9": lambda m: gzip_member(m, 9),
        "with a name": lambda m: gzip_member(m, name="name"),
    },
    "deflate": {
        "level 1": lambda m: deflated(m, 1),
        "level 9": lambda m: deflated(m, 9),
        "stored": lambda m: deflated(m, 0),
        "small window": lambda m: deflated(m, 9, 9),
    },
}


def inflate(wrapper, data):
    stream = zlib.decompressobj(wrapper)
    message = stream.decompress(data)
    assert stream.eof and not stream.unused_data
    return message


DECOMPRESSORS = {
    "lz4": lambda data, length: lz4.block.decompress(data, uncompressed_size=length),
    "zstd": lambda data, length: zstandard.ZstdDecompressor().decompress(data, max_output_size=length),
    "gzip": lambda data, _: inflate(31, data),
    "deflate": lambda data, _: inflate(15, data),
}


def head(length):
    return b"\x01" + struct.pack(">I", length)


def refused_by_all(data, length):
    """What no stage takes; `data` is what it has made of a message of this length."""
    whole = head(length) + data
    return {
        "nothing": (b"", "pipeline_failed"),
        "unknown flag": (b"\x02" + whole[1:], "pipeline_failed"),
        "no length": (whole[:4], "pipeline_failed"),
        "no data": (whole[:5], "pipeline_failed"),
        "cut short": (whole[:-1], "pipeline_failed"),
        "a byte behind it": (whole + b"\x00", "pipeline_failed"),
        "longer than it says": (head(length - 1) + data, "pipeline_failed"),
        "shorter than it says": (head(length + 1) + data, "pipeline_failed"),
        "says more than the limit": (head(2**32 - 1) + data, "message_too_large"),
        "as it is, over the limit": (b"\x00" * 2_002, "message_too_large"),
    }


def refused_by(stage, data, length):
    half = {"zstd": zstd_frame, "gzip": gzip_member, "deflate": deflated}.get(stage)
    skipped = struct.pack("<II", 0x184D2A50, 3) + b"abc"
    damaged = bytearray(data)
    damaged[-1] ^= 1
    cases = {}
    if half:
        cases["two in a row"] = head(length) + half(b"x" * (length // 2)) + half(b"x" * (length // 2))
    if stage in ("gzip", "deflate"):
        cases["wrong checksum"] = head(length) + bytes(damaged)
    if stage == "zstd":
        cases["wrong checksum"] = head(length) + zstd_frame(b"x" * length, checksum=True)[:-1] + b"?"
        cases["a frame to be skipped before it"] = head(length) + skipped + data
        cases["a frame to be skipped behind it"] = head(length) + data + skipped
        # Three bytes in one raw block, for a dictionary with the id 5.
        cases["dictionary"] = head(3) + bytes.fromhex("28b52ffd210503190000616263")
    if stage == "lz4":
        cases["a match before the beginning"] = head(length) + bytes.fromhex("10780500") + data
        cases["an offset of zero"] = head(length) + bytes.fromhex("10780000") + data
    return {name: (encoded, "pipeline_failed") for name, encoded in cases.items()}


def compression():
    decodes, refused = [], []
    for stage, variants in COMPRESSORS.items():
        for name, compress in variants.items():
            for kind, (pattern, times) in SHRINKING.items():
                if (name, kind) == ("stored", "long"):
                    continue  # It would be most of the file.
                message = pattern * times
                encoded = head(len(message)) + compress(message)
                decodes.append(
                    {
                        "name": f"{stage}, {name}: {kind}",
                        "stage": stage,
                        "pattern": pattern.hex(),
                        "times": times,
                        "encoded": encoded.hex(),
                    }
                )
        length = 1_024
        data = next(iter(variants.values()))(b"x" * length)
        for name, (encoded, code) in {
            **refused_by_all(data, length),
            **refused_by(stage, data, length),
        }.items():
            refused.append(
                {
                    "name": f"{stage}: {name}",
                    "stage": stage,
                    "limit": 2_000,
                    "encoded": encoded.hex(),
                    "code": code,
                }
            )
    plain = [
        {"pattern": pattern.hex(), "times": times, "encoded": (b"\x00" + pattern * times).hex()}
        for pattern, times in AS_THEY_ARE
    ]
    return {"threshold": 1_024, "plain": plain, "decodes": decodes, "refused": refused}


def without_compressed(vectors):
    """The part that is the same with each version of the libraries; decompresses the rest."""
    for case in vectors["decodes"]:
        message = bytes.fromhex(case["pattern"]) * case["times"]
        encoded = bytes.fromhex(case.pop("encoded"))
        assert encoded[:5] == head(len(message)), case["name"]
        assert DECOMPRESSORS[case["stage"]](encoded[5:], len(message)) == message, case["name"]
    for case in vectors["refused"]:
        del case["encoded"]
    return vectors


# --- HMAC ---


def tag(secret, message):
    return hmac.new(secret, message, hashlib.sha256).digest()


def authentication():
    secrets = [sample(f"hmac {length}", length) for length in (16, 32, 64, 65, 200)]
    stages, refused, texts = [], [], []
    for secret in secrets:
        for message in messages():
            encoded = message + tag(secret, message)
            stages.append({"secret": secret.hex(), "message": message.hex(), "encoded": encoded.hex()})
    secret, message = secrets[1], b"hello"
    signed = message + tag(secret, message)
    for name, encoded in {
        "nothing": b"",
        "too short": signed[-31:],
        "another message": b"jello" + signed[5:],
        "another tag": signed[:-1] + bytes([signed[-1] ^ 0x80]),
        "another secret": message + tag(secrets[2], message),
        "cut short": signed[:-1],
        "a byte behind it": signed + b"\x00",
        "the tag before it": signed[5:] + message,
    }.items():
        refused.append({"name": name, "secret": secret.hex(), "encoded": encoded.hex()})
    for key in ("", "key", "secret_key", "naïve ☃", "k" * 100):
        for text in ("", "hello", "a|b|", "naïve ☃"):
            signature = base64.b64encode(tag(key.encode(), text.encode())).decode()
            texts.append({"key": key, "message": text, "signed": f"{text}|{signature}"})
    return {"stage": stages, "refused": refused, "text": texts}


FILES = {"encryption.json": encryption, "compression.json": compression, "hmac.json": authentication}
# What is compared where that is not all.
COMPARED = {"compression.json": without_compressed}


def main():
    check = "--check" in sys.argv[1:]
    for name, make in FILES.items():
        made, path = make(), HERE / name
        if not check:
            path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            continue
        compared = COMPARED.get(name, lambda vectors: vectors)
        if compared(json.loads(path.read_text(encoding="utf-8"))) != compared(made):
            sys.exit(f"{name} is not what this script makes")


if __name__ == "__main__":
    main()
