"""Servers with a dashboard to look at: one with made-up facts, and the program with real sessions."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import time
import urllib.parse
import urllib.request

import browser
import mock

CONTROL, DATA = 0x20, 0x10


class Peer:
    """A client in so few lines: its hello, and then what arrives."""

    def __init__(self, address, client_id, **hello):
        self.socket = socket.create_connection(address)
        self.send(CONTROL, json.dumps({'op': 'hello', 'client_id': client_id, **hello}).encode())
        self.rest = b''

    def send(self, kind, payload):
        self.socket.sendall(b'MSGI' + struct.pack('>IH', 10 + len(payload), kind) + payload)

    def receive(self, kind):
        """The payload of the next frame of a kind."""
        self.socket.settimeout(browser.SECONDS)
        while True:
            while len(self.rest) < 10 or len(self.rest) < struct.unpack('>I', self.rest[4:8])[0]:
                part = self.socket.recv(65536)
                if not part:
                    raise AssertionError(f'the server has closed before a frame of kind {kind:#x}')
                self.rest += part
            length, found = struct.unpack('>IH', self.rest[4:10])
            payload, self.rest = self.rest[10:length], self.rest[length:]
            if found == kind:
                return payload


class Mock:
    """The API with made-up facts."""

    hostile = mock.HOSTILE

    def __init__(self, sessions=0, token=None, guarded=False, hostile=()):
        self.facts = mock.Facts(sessions, token, guarded)
        for client_id in hostile:
            self.facts.add(client_id)
        self.server = mock.Server(self.facts)
        self.port = self.server.server_port
        self.url = f'http://127.0.0.1:{self.port}/'

    def stop(self):
        self.server.stop()

    def restart(self):
        self.server = mock.Server(self.facts, self.port)

    def suspend(self, client_id):
        with self.facts.lock:
            session = self.facts.sessions[self.facts.add(client_id)]
            session.update(state='suspended', reliable=True, resumes=0, unacknowledged_messages=1, unacknowledged_bytes=15)

    def check_message(self, number, text):
        assert (number, 'messages', {'text': text}) in self.facts.posts, self.facts.posts

    def check_disconnect(self, number, reason):
        assert (number, 'disconnect', {'reason': reason}) in self.facts.posts, self.facts.posts


class Netsys:
    """The program, with real sessions."""

    # What the library takes as a client's name: at most 256 bytes.
    hostile = [name for name in mock.HOSTILE if len(name.encode()) <= 256]
    program = None

    def __init__(self, sessions=0, token=None, guarded=False, hostile=()):
        self.token, self.host, self.port = token, '0.0.0.0' if guarded else '127.0.0.1', 0
        self.peers = {}
        self.start()
        names = [f'c-{number}' for number in range(1, sessions + 1)] + list(hostile)
        for name in names:
            self.peers[name] = Peer(self.address, name)
        for peer in self.peers.values():
            # The session is open when it has been welcomed.
            peer.receive(CONTROL)

    def start(self):
        command = [self.program, '--quiet', 'serve', '--listen', 'tcp://127.0.0.1:0', '--max-connections', '20000', '--idle-timeout', '1h', '--heartbeat', '1h', '--reliable', '--resume-timeout', '1h',
                   '--session-rate', '1000000msg,1GiB',
                   '--dashboard', f'{self.host}:{self.port}']
        environment = dict(os.environ)
        environment.pop('NETSYS_DASHBOARD_TOKEN', None)
        if self.token:
            environment['NETSYS_DASHBOARD_TOKEN'] = self.token
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stdout:
            what, _, url = line.strip().partition(' ')
            if what == 'listening':
                parts = urllib.parse.urlsplit(url)
                self.address = (parts.hostname, parts.port)
            elif what == 'dashboard':
                self.port = urllib.parse.urlsplit(url).port
                self.url = f'http://127.0.0.1:{self.port}/'
                return
        raise AssertionError(f'{self.program} has ended with {self.process.wait()}')

    def stop(self):
        for peer in self.peers.values():
            peer.socket.close()
        self.peers.clear()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.start()

    def suspend(self, client_id):
        peer = Peer(self.address, client_id, reliable=True)
        peer.receive(CONTROL)
        # Its echo is not acknowledged when the link is lost.
        peer.send(DATA, b'hello')
        peer.receive(DATA)
        peer.socket.close()

    def peer(self, number):
        with urllib.request.urlopen(urllib.request.Request(f'{self.url}api/v1/sessions/{number}', headers={'Authorization': f'Bearer {self.token}'})) as answer:
            return self.peers[json.load(answer)['client_id']]

    def check_message(self, number, text):
        got = self.peer(number).receive(DATA)
        assert got == text.encode(), got

    def check_disconnect(self, number, reason):
        # Which one it was can no longer be asked.
        deadline = time.monotonic() + browser.SECONDS
        while time.monotonic() < deadline:
            for peer in self.peers.values():
                peer.socket.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    if reason.encode() in peer.rest + peer.socket.recv(65536, socket.MSG_PEEK):
                        return
            time.sleep(.05)
        raise AssertionError('no peer was told the reason')
