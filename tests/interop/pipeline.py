"""Talks to the example encrypted_echo through stages that other people's code has made: a client in Python.

    pipeline.py EXAMPLE

Written from docs/protocol.md alone. Prints a line for each combination of stages; fails if one did not work.
"""

import gzip
import hashlib
import hmac
import json
import os
import socket
import struct
import subprocess
import sys
import zlib

try:
    import lz4.block
    import zstandard
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as error:
    print(f'--- skipped: {error}')
    sys.exit(0)

EXAMPLE = sys.argv[1]
SECRETS = {
    1: bytes.fromhex('1d5ce0f3a8a24f6e9b07c6f1d23b884e5a60b2c7e4917f38d05c9a6b12e38f74'),
    2: bytes.fromhex('92b1f04c6d7e3a58c9e20d417fb35a6680d4e1c72f9b05a3de6718c4b05f9e2d'),
}
DATA, REQUEST, RESPONSE, CONTROL, ERROR, DISCONNECT = 0x10, 0x11, 0x12, 0x20, 0x30, 0x50
SECONDS = 60


class Compression:
    def __init__(self, compress, decompress):
        self.compress, self.decompress = compress, decompress

    def encode(self, message):
        compressed = b'\1' + struct.pack('>I', len(message)) + self.compress(message)
        plain = b'\0' + message
        return compressed if len(compressed) < len(plain) else plain

    def decode(self, encoded):
        if encoded[0] == 0:
            return encoded[1:]
        assert encoded[0] == 1
        (length,) = struct.unpack('>I', encoded[1:5])
        message = self.decompress(encoded[5:], length)
        assert len(message) == length
        return message


COMPRESSIONS = {
    'lz4': lambda: Compression(
        lambda m: lz4.block.compress(m, store_size=False),
        lambda m, length: lz4.block.decompress(m, uncompressed_size=length)),
    'zstd': lambda: Compression(
        lambda m: zstandard.ZstdCompressor().compress(m),
        lambda m, length: zstandard.ZstdDecompressor().decompress(m, max_output_size=length)),
    'gzip': lambda: Compression(gzip.compress, lambda m, _: gzip.decompress(m)),
    'deflate': lambda: Compression(zlib.compress, lambda m, _: zlib.decompress(m)),
}
CIPHERS = {'aes-256-gcm': AESGCM, 'chacha20-poly1305': ChaCha20Poly1305}


class Cipher:
    """Both directions of a link."""

    def __init__(self, name, salt, transcript):
        self.name, self.salt, self.transcript = name, salt, transcript
        self.key_id = 1
        self.keys, self.counts = {}, {}

    def next(self, direction, key_id):
        which = direction, key_id
        if which not in self.keys:
            info = f'msgi1 {self.name} {direction}'.encode()
            kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=self.salt, info=info)
            self.keys[which] = CIPHERS[self.name](kdf.derive(SECRETS[key_id]))
            self.counts[which] = 0
        count = struct.pack('>Q', self.counts[which])
        aad = self.transcript if self.counts[which] == 0 else count
        self.counts[which] += 1
        return self.keys[which], bytes(4) + count, aad

    def encode(self, message):
        key, nonce, aad = self.next('c2s', self.key_id)
        return struct.pack('>I', self.key_id) + key.encrypt(nonce, message, aad)

    def decode(self, encoded):
        (key_id,) = struct.unpack('>I', encoded[:4])
        self.heard = key_id
        key, nonce, aad = self.next('s2c', key_id)
        return key.decrypt(nonce, encoded[4:], aad)


class Signed:
    def encode(self, message):
        return message + hmac.digest(SECRETS[2], message, 'sha256')

    def decode(self, encoded):
        message, tag = encoded[:-32], encoded[-32:]
        assert hmac.compare_digest(tag, hmac.digest(SECRETS[2], message, 'sha256'))
        return message


class Client:
    def __init__(self, address, stages):
        self.socket = socket.create_connection(address, SECONDS)
        nonce = os.urandom(16)
        hello = json.dumps({'op': 'hello', 'version': 1, 'pipeline': stages, 'nonce': nonce.hex()}).encode()
        self.send(CONTROL, hello)
        kind, welcome = self.receive()
        assert kind == CONTROL, (kind, welcome)
        answer = json.loads(welcome)
        assert answer['op'] == 'welcome' and answer['pipeline'] == stages, answer
        salt = nonce + bytes.fromhex(answer['nonce'])
        transcript = hashlib.sha256(hello + welcome).digest()
        self.stages = []
        for name in stages:
            if name in COMPRESSIONS:
                self.stages.append(COMPRESSIONS[name]())
            elif name in CIPHERS:
                self.cipher = Cipher(name, salt, transcript)
                self.stages.append(self.cipher)
            else:
                self.stages.append(Signed())

    def encode(self, message):
        for stage in self.stages:
            message = stage.encode(message)
        return message

    def decode(self, message):
        for stage in reversed(self.stages):
            message = stage.decode(message)
        return message

    def send(self, kind, payload):
        self.socket.sendall(b'MSGI' + struct.pack('>IH', 10 + len(payload), kind) + payload)

    def exactly(self, count):
        data = b''
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def receive(self):
        head = self.exactly(10)
        length, kind = struct.unpack('>IH', head[4:])
        assert head[:4] == b'MSGI'
        return kind, self.exactly(length - 10)

    def echo(self, message):
        self.send(DATA, self.encode(message))
        kind, payload = self.receive()
        assert kind == DATA, (kind, payload)
        assert self.decode(payload) == message

    def ask(self, number, message):
        self.send(REQUEST, struct.pack('>Q', number) + self.encode(message))
        kind, payload = self.receive()
        assert (kind, payload[:8]) == (RESPONSE, struct.pack('>Q', number))
        assert self.decode(payload[8:]) == message

    def leave(self):
        self.send(DISCONNECT, b'')
        kind, _ = self.receive()
        assert kind == DISCONNECT, kind
        self.socket.close()


def main():
    options = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([EXAMPLE, 'serve'], **options) as server:
        try:
            # "listening tcp://127.0.0.1:PORT"
            host, port = server.stdout.readline().split('//')[1].strip().rsplit(':', 1)
            run((host, int(port)), server)
            server.stdin.write('\n')
            server.stdin.flush()
            assert server.wait(SECONDS) == 0
        finally:
            server.kill()


def run(address, server):
    messages = [b'', b'short', b'again and again ' * 2_000, os.urandom(50_000), os.urandom(1_048_576)]

    def use_key(number):
        server.stdin.write(f'{number}\n')
        server.stdin.flush()
        assert server.stdout.readline() == f'active {number}\n'

    compressions = [[]] + [[name] for name in COMPRESSIONS]
    ciphers = [[]] + [[name] for name in CIPHERS]
    for stages in (c + e + h for c in compressions for e in ciphers for h in ([], ['hmac-sha256'])):
        if not stages:
            continue
        client = Client(address, stages)
        for number, message in enumerate(messages):
            client.echo(message)
            client.ask(number, message)
        if any(name in CIPHERS for name in stages):
            # The server changes its key, then this side does, and both go back.
            for server_key, client_key in [(2, 1), (2, 2), (1, 2), (1, 1)]:
                use_key(server_key)
                client.cipher.key_id = client_key
                for message in messages:
                    client.echo(message)
                    assert client.cipher.heard == server_key
        client.leave()
        print('ok', ', '.join(stages))

    # What was sent twice ends the connection.
    client = Client(address, ['lz4', 'aes-256-gcm'])
    frame = client.encode(b'once')
    client.send(DATA, frame)
    client.send(DATA, frame)
    assert client.decode(client.receive()[1]) == b'once'
    kind, payload = client.receive()
    assert (kind, struct.unpack('>i', payload[:4])) == (ERROR, (-646,)), (kind, payload)
    print('ok, a replay is refused')


main()
