"""Peers that break the protocol, against a running netsys, with its memory and descriptors watched (Linux).

    hostile.py NETSYS

Between each of them a well-formed client is answered.
"""

import base64
import os
import select
import socket
import subprocess
import sys
import time
import urllib.parse
import zlib

NETSYS = sys.argv[1]
MIB = 1024 * 1024
PATIENCE = 30
# What the server may take on top of what it took before: buffers of workers, and of connections that are open.
GROWTH = 24 * MIB
CONNECTIONS = 2000
KEY = base64.b64encode(bytes(16)).decode()
DEFLATE = 'Sec-WebSocket-Extensions: permessage-deflate\r\n'


def request(headers=''):
    return (f'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
            f'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n').encode()


def head(first, length, mask=bytes(4)):
    if length < 126:
        return bytes([first, 0x80 | length]) + mask
    if length < 1 << 16:
        return bytes([first, 0x80 | 126]) + length.to_bytes(2, 'big') + mask
    return bytes([first, 0x80 | 127]) + length.to_bytes(8, 'big') + mask


def frame(first, payload):
    return head(first, len(payload)) + payload


class Netsys:
    def __init__(self, *options):
        arguments = [NETSYS, 'serve', '--listen', 'ws://127.0.0.1:0', '--max-connections', '0', *options]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        url = urllib.parse.urlsplit(self.process.stdout.readline().split()[-1])
        self.address = (url.hostname, url.port)

    def raw(self):
        return socket.create_connection(self.address, timeout=PATIENCE)

    def peer(self, headers=''):
        peer = self.raw()
        peer.sendall(request(headers))
        answer = b''
        while not answer.endswith(b'\r\n\r\n'):
            answer += peer.recv(1) or fail('the server has closed')
        assert answer.startswith(b'HTTP/1.1 101 '), answer
        return peer

    def serves(self):
        with self.peer() as peer:
            peer.sendall(frame(0x81, b'well-formed'))
            answer = peer.recv(13, socket.MSG_WAITALL)
            assert answer == b'\x81\x0bwell-formed', answer

    def memory(self):
        """Resident bytes: now, and the most there ever were."""
        with open(f'/proc/{self.process.pid}/status') as status:
            lines = dict(line.split(':', 1) for line in status)
        return [int(lines[name].split()[0]) * 1024 for name in ('VmRSS', 'VmHWM')]

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))

    def returns_to(self, descriptors):
        until = time.monotonic() + PATIENCE
        while self.descriptors() > descriptors:
            assert time.monotonic() < until, f'{self.descriptors()} descriptors, {descriptors} before'
            time.sleep(0.05)


def fail(why):
    raise AssertionError(why)


def rest(peer):
    """All that comes until the server closes."""
    received = b''
    try:
        while more := peer.recv(65536):
            received += more
    except ConnectionResetError:
        pass
    return received


def malformed_requests(netsys):
    for bad, status in [
            (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(500), b'400'),
            (os.urandom(4096), b'400'),
            (b'POST / HTTP/1.1\r\n\r\n', b'405'),
            (request().replace(b': 13', b': 8'), b'426'),
            (request().replace(b'Upgrade: websocket\r\n', b''), b'426'),
            (request().replace(b'Host: 127.0.0.1', b'Host: a b'), b'400'),
            (request('Content-Length: 5\r\n'), b'400'),
            (request('Origin: https://evil.example\r\n'), b'403'),
            (b'GET /' + b'x' * 20000, b'431'),
            (request('X: ' + 'x' * 20000 + '\r\n'), b'431'),
            (request('X: y\r\n' * 100), b'431')]:
        with netsys.raw() as peer:
            peer.sendall(bad)
            answer = rest(peer)
            # Random bytes can look like the beginning of a method.
            assert answer.startswith(b'HTTP/1.1 ' + status) or len(bad) == 4096, (bad[:40], answer)
        netsys.serves()


def slow_requests(netsys):
    began = time.monotonic()
    peers = [netsys.raw() for _ in range(50)]
    endless = request()[:-2] + b'X: ' + b'x' * 4000
    for byte in endless:
        ended, _, _ = select.select(peers, [], [], 0.005)
        if ended:
            break
        for peer in peers:
            peer.send(bytes([byte]))
    netsys.serves()
    for peer in peers:
        answer = rest(peer)
        assert answer.startswith(b'HTTP/1.1 408 ') or answer == b'', answer
        peer.close()
    assert time.monotonic() - began < PATIENCE


def malformed_frames(netsys):
    for bad, code in [
            (b'\x81\x01x', 1002), (frame(0xC1, b'x'), 1002), (frame(0xA1, b'x'), 1002), (frame(0x91, b'x'), 1002),
            (frame(0x83, b'x'), 1002), (frame(0x8F, b'x'), 1002), (frame(0x09, b'x'), 1002), (head(0x89, 126), 1002),
            (frame(0x80, b'x'), 1002), (frame(0x01, b'x') + frame(0x81, b'x'), 1002), (frame(0x81, b'\xff'), 1007),
            (frame(0x01, b'\xed\xa0'), 1007), (head(0x82, 1 << 63), 1002), (head(0x82, (1 << 63) - 1), 1009),
            (head(0x82, MIB + 1), 1009), (frame(0x88, b'x'), 1002), (frame(0x88, b'\x03\xed'), 1002)]:
        with netsys.peer() as peer:
            peer.sendall(bad)
            answer = rest(peer)
            assert answer[:1] == b'\x88' and int.from_bytes(answer[2:4], 'big') == code, (bad, answer)
        netsys.serves()


def declared_lengths(netsys):
    peers = []
    for _ in range(200):
        peer = netsys.peer()
        peer.sendall(head(0x82, MIB) + b'x' * 10)
        peers.append(peer)
    netsys.serves()
    for peer in peers:
        peer.close()


def bombs(netsys):
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b''.join(compressor.compress(bytes(MIB)) for _ in range(1024)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    for _ in range(20):
        with netsys.peer(DEFLATE) as peer:
            try:
                peer.sendall(frame(0xC2, bomb[:-4]))
            except (BrokenPipeError, ConnectionResetError):
                pass
            answer = rest(peer)
            assert answer[:1] == b'\x88' and answer[2:4] == (1009).to_bytes(2, 'big'), answer
    # Many small ones: each message is allowed, the answers to all are never read.
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = frame(0xC2, (compressor.compress(bytes(MIB)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4])
    peer = netsys.peer(DEFLATE)
    peer.settimeout(1)
    try:
        peer.sendall(small * 500)
    except socket.timeout:
        pass
    netsys.serves()
    peer.close()


def pings(netsys):
    pings = frame(0x89, b'x' * 125) * 2000
    with netsys.peer() as peer:
        for sent in range(256 * MIB // len(pings)):
            peer.sendall(pings)
            if sent % 100 == 0:
                netsys.serves()
        netsys.serves()


def messages_without_reading(netsys):
    peer = netsys.peer()
    peer.settimeout(1)
    messages = frame(0x82, bytes(1000)) * 100
    sent = 0
    try:
        while sent < 256 * MIB:
            sent += peer.send(messages)
    except socket.timeout:
        pass
    assert sent < 64 * MIB, f'{sent} bytes were taken from a peer that does not read'
    netsys.serves()
    peer.close()


def connections(netsys):
    begun = request()
    peers = []
    for number in range(CONNECTIONS):
        peer = netsys.raw()
        peer.sendall(begun[:number % len(begun)])
        peers.append(peer)
        if number % 500 == 0:
            netsys.serves()
    netsys.serves()
    for peer in peers:
        assert rest(peer)[:13] in (b'HTTP/1.1 408 ', b''), peer
        peer.close()


def resets(netsys):
    for number in range(500):
        peer = netsys.raw()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        peer.sendall((request() + frame(0x81, b'x' * 100) * 3)[:number])
        peer.close()


def main():
    netsys = Netsys('--first-byte-timeout', '5s')
    try:
        netsys.serves()
        descriptors, before = netsys.descriptors(), netsys.memory()[0]
        print(f'{"":26} at first {before / MIB:6.1f} MiB, {descriptors} descriptors')
        for attack in [malformed_requests, slow_requests, malformed_frames, declared_lengths, bombs, pings,
                       messages_without_reading, connections, resets]:
            began = time.monotonic()
            attack(netsys)
            netsys.serves()
            netsys.returns_to(descriptors)
            now, most = netsys.memory()
            print(f'{attack.__name__:26} {now / MIB:6.1f} MiB, at most {most / MIB:6.1f} MiB, '
                  f'{time.monotonic() - began:4.1f} s', flush=True)
            assert most - before < GROWTH, 'the server has grown too much'
        assert netsys.process.poll() is None
    finally:
        netsys.process.terminate()
        netsys.process.wait(PATIENCE)
    return 0 if netsys.process.returncode == 0 else 1


sys.exit(main())
