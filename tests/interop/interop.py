"""Exchanges messages between netsys and WebSocket programs of others.

    interop.py NETSYS DIR

DIR is where npm has installed ws. Prints a line for each program; fails if one did not work.
"""

import asyncio
import base64
import contextlib
import functools
import http.server
import importlib
import os
import queue
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import traceback
import urllib.parse

NETSYS, DIR = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
SENT = ['text', 'grüße 🌍', bytes(range(256)), 'x' * 200_000, bytes(300_000), '']
LINES = ['one', 'two', 'grüße 🌍']
SECONDS = 60


class Skipped(Exception):
    """A program is not there."""


def needed(module):
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Skipped(f'there is no Python package {module}') from None


def program(*names):
    for name in names:
        if path := shutil.which(name):
            return path
    raise Skipped(f'there is no {names[0]}')


@contextlib.contextmanager
def started(arguments, **options):
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(SECONDS)


@contextlib.contextmanager
def serving(*options, scheme='ws'):
    """For wss it makes a certificate of its own, which nobody trusts."""
    with started([NETSYS, '--quiet', 'serve', '--listen', scheme + '://127.0.0.1:0', *options]) as process:
        # "listening ws://127.0.0.1:PORT"
        yield process.stdout.readline().split()[-1]


def connect(url, *options):
    """`netsys connect` prints what an echo server sends back."""
    with started([NETSYS, 'connect', url, *options], stdin=subprocess.PIPE, encoding='utf-8') as process:
        for line in LINES:
            process.stdin.write(line + '\n')
            process.stdin.flush()
            assert process.stdout.readline() == line + '\n'
        process.stdin.close()
        assert process.wait(SECONDS) == 0


def websockets_client(scheme='ws'):
    websockets = needed('websockets.asyncio.client')

    async def run(url):
        async with websockets.connect(url, max_size=None, ssl=context) as connection:
            for message in SENT:
                await connection.send(message)
            for message in SENT:
                assert await connection.recv() == message
            await connection.send(['frag', 'men', 'ts'])
            assert await connection.recv() == 'fragments'
            await asyncio.wait_for(await connection.ping(), SECONDS)
        assert connection.close_code == 1000, connection.close_code

    context = None
    if scheme == 'wss':
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with serving(scheme=scheme) as url:
        asyncio.run(run(url))


def websockets_client_wss():
    websockets_client('wss')


def websockets_server():
    websockets = needed('websockets.asyncio.server')

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def run():
        async with websockets.serve(echo, '127.0.0.1', 0) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.to_thread(connect, f'ws://127.0.0.1:{port}/chat?room=1')

    asyncio.run(run())


def aiohttp_client():
    aiohttp = needed('aiohttp')

    async def run(url):
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(url, compress=15, max_msg_size=0) as connection:
                assert connection.compress, 'no compression was agreed on'
                for message in SENT:
                    if isinstance(message, str):
                        await connection.send_str(message)
                    else:
                        await connection.send_bytes(message)
                for message in SENT:
                    assert (await connection.receive()).data == message
            assert connection.close_code == 1000, connection.close_code

    with serving() as url:
        asyncio.run(run(url))


def aiohttp_server():
    aiohttp = needed('aiohttp')
    web = needed('aiohttp.web')

    async def echo(request):
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        async for message in connection:
            if message.type == aiohttp.WSMsgType.TEXT:
                await connection.send_str(message.data)
            elif message.type == aiohttp.WSMsgType.BINARY:
                await connection.send_bytes(message.data)
        return connection

    async def run():
        application = web.Application()
        application.add_routes([web.get('/chat', echo)])
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, '127.0.0.1', 0)
        await site.start()
        port = runner.addresses[0][1]
        await asyncio.to_thread(connect, f'ws://127.0.0.1:{port}/chat')
        await runner.cleanup()

    asyncio.run(run())


def node():
    path = program('node')
    if not os.path.isdir(os.path.join(DIR, 'node_modules', 'ws')):
        raise Skipped("there is no npm package ws")
    environment = dict(os.environ, NODE_PATH=os.path.join(DIR, 'node_modules'))
    return [path, os.path.join(HERE, 'echo.js')], environment


def npm_ws_client():
    command, environment = node()
    with serving() as url:
        done = subprocess.run([*command, 'client', url], env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert 'permessage-deflate' in done.stdout, done.stdout


def npm_ws_server():
    command, environment = node()
    with started([*command, 'server'], env=environment) as process:
        # It says yes to whatever subprotocol is offered first, MSGI's too.
        connect(f'ws://127.0.0.1:{int(process.stdout.readline())}/', '--plain')


def masked(first, payload):
    """A frame of a client whose mask is zero."""
    return bytes([0x80 | first, 0x80 | len(payload)]) + bytes(4) + payload


def curl():
    """Asks for the upgrade as for any page, and prints what comes as it is."""
    key = base64.b64encode(bytes(16)).decode()
    # curl prints the head of the answer together with the first bytes behind it, so there have to be some.
    with serving('--handler', 'broadcast', '--heartbeat', '100ms') as url:
        arguments = [program('curl'), '--silent', '--include', '--no-buffer', '--http1.1', '--max-time', str(SECONDS),
                     '-H', 'Connection: Upgrade', '-H', 'Upgrade: websocket', '-H', 'Sec-WebSocket-Version: 13',
                     '-H', f'Sec-WebSocket-Key: {key}', url.replace('ws://', 'http://')]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b'HTTP/1.1 101 Switching Protocols\r\n'
            while process.stdout.readline() != b'\r\n':
                pass
            parts = urllib.parse.urlsplit(url)
            with socket.create_connection((parts.hostname, parts.port), timeout=SECONDS) as other:
                upgrade = (f'GET / HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
                           f'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n')
                other.sendall(upgrade.encode() + masked(1, b'hello, curl'))
                frame = b'\x89'
                while frame[0] == 0x89:
                    frame = process.stdout.read(2)
                    frame += process.stdout.read(frame[1])
                assert frame == b'\x81\x0bhello, curl', frame
            process.terminate()


class Page(http.server.SimpleHTTPRequestHandler):
    """Serves the page, and takes its report."""

    def __init__(self, reports, *arguments):
        self.reports = reports
        super().__init__(*arguments, directory=HERE)

    def do_POST(self):
        self.reports.put(self.rfile.read(int(self.headers['Content-Length'])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


def chromium(scheme='ws'):
    path = program('chromium', 'chromium-browser', 'google-chrome')
    reports = queue.Queue()
    with serving(scheme=scheme) as url, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, \
            http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Page, reports)) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        page = f'http://127.0.0.1:{pages.server_port}/page.html?url={urllib.parse.quote(url)}'
        arguments = [path, '--headless', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
                     '--ignore-certificate-errors', f'--user-data-dir={profile}', '--remote-debugging-port=0']
        if os.geteuid() == 0:
            # Its sandbox does not run as root. The page is our own.
            arguments.append('--no-sandbox')
        with started([*arguments, page], stderr=subprocess.DEVNULL):
            report = reports.get(timeout=SECONDS)
        pages.shutdown()
    assert report.startswith('passed, extensions: permessage-deflate'), report


def chromium_wss():
    chromium('wss')


def openssl_s_client():
    """Lines through TLS 1.2 and 1.3, with a certificate that openssl verifies."""
    openssl = program('openssl')
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([NETSYS, '--quiet', 'cert', directory], check=True, stdout=subprocess.DEVNULL)
        ca, cert, key = (os.path.join(directory, name) for name in ('ca.pem', 'server.pem', 'server.key'))
        with started([NETSYS, '--quiet', 'serve', '--listen', 'tls://127.0.0.1:0?codec=lines', '--cert', cert,
                      '--key', key]) as server:
            parts = urllib.parse.urlsplit(server.stdout.readline().split()[-1])
            for version in ('-tls1_2', '-tls1_3'):
                with started([openssl, 's_client', '-connect', f'127.0.0.1:{parts.port}', '-CAfile', ca, version,
                              '-verify_return_error', '-verify_hostname', 'localhost', '-servername', 'localhost',
                              '-quiet'], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             encoding='utf-8') as client:
                    for line in LINES:
                        client.stdin.write(line + '\n')
                        client.stdin.flush()
                        assert client.stdout.readline() == line + '\n', version


def main():
    failed = False
    for test in [websockets_client, websockets_client_wss, websockets_server, aiohttp_client, aiohttp_server,
                 npm_ws_client, npm_ws_server, curl, openssl_s_client, chromium, chromium_wss]:
        try:
            test()
            print(f'{test.__name__:22} passed', flush=True)
        except Skipped as why:
            print(f'--- skipped: {test.__name__}: {why}', flush=True)
        except Exception:
            failed = True
            print(f'{test.__name__:22} FAILED', flush=True)
            traceback.print_exc()
    return 1 if failed else 0


sys.exit(main())
