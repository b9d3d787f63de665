"""A server that speaks the dashboard's API with made-up facts, to work on the page without a build.

    mock.py [--port N] [--sessions N] [--token TOKEN] [--guarded] [--hostile]

`--guarded` wants the token for reading, too, as off loopback. `--hostile` adds sessions whose clients chose their names
to do harm. What the real server refuses is refused here as far as the page can run into it.
"""

import argparse
import http.server
import json
import math
import os
import random
import socket
import threading
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
ASSETS = os.path.join(HERE, '..', '..', 'dashboard', 'assets')
TYPES = {'.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8'}
CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
       "form-action 'none'; frame-ancestors 'none'")
KEPT_SAMPLES, KEPT_EVENTS = 900, 512
NUMBERS = ('id', 'connected_seconds', 'idle_seconds', 'messages_received', 'messages_sent', 'bytes_received', 'bytes_sent', 'errors',
           'dropped', 'rate_limited', 'queued_messages', 'queued_bytes', 'buffer_bytes', 'round_trip_us', 'reliable', 'resumes',
           'unacknowledged_messages', 'unacknowledged_bytes', 'groups')
TEXTS = ('client_id', 'identity', 'transport', 'remote', 'state')
HOSTILE = ['<img src=x onerror="window.harmed=1">', '<script>window.harmed=2</script>', 'user\u202egnp.exe', '\u0000\u001b[31mred\u0007',
           'x' * 65536, '"><svg/onload=window.harmed=3>', '\U0001f600' * 64, 'a\u0300' * 400, '&lt;b&gt;', "javascript:window.harmed=4",
           '\u034f' * 40, '\u3164\u2800', 'tag\U000e0041', '   ']
COLUMNS = ('at', 'messages_received', 'messages_sent', 'bytes_received', 'bytes_sent', 'connections', 'opened', 'closed', 'errors', 'dropped',
           'lost', 'rate_limited', 'throttled', 'shed', 'suspended', 'resumed', 'expired', 'unacknowledged', 'queued_bytes', 'buffer_bytes', 'resident_bytes', 'handler_p50_us', 'handler_p95_us', 'handler_p99_us', 'handler_max_us',
           'ping_p50_us', 'ping_p99_us', 'request_p50_us', 'request_p99_us')


class Refused(Exception):
    def __init__(self, status, message, code=None):
        super().__init__(message)
        self.status, self.code = status, code


class Facts:
    """What there is to tell."""

    def __init__(self, sessions, token=None, guarded=False, hostile=False, name='server'):
        self.token, self.guarded, self.name = token, guarded, name
        self.lock = threading.Lock()
        self.random = random.Random(7)
        self.began = time.time()
        self.state = 'running'
        self.posts = []
        self.sessions = {}
        for number in range(1, sessions + 1):
            self.add(f'c-{number}')
        if hostile:
            for client_id in HOSTILE:
                self.add(client_id)
        self.samples, self.first_sample = [], 0
        self.events, self.first_event = [], 0
        now = time.time()
        for age in range(KEPT_SAMPLES, 0, -1):
            self.sample(now - age)
        for number in range(200):
            self.event('warn' if number % 7 == 0 else 'error' if number % 31 == 0 else 'info', now - 200 + number)

    def add(self, client_id):
        number = len(self.sessions) + 1
        pick = self.random
        self.sessions[number] = {
            'id': number, 'client_id': client_id, 'identity': f'user{number % 90}' if number % 3 == 0 else None,
            'transport': ('tcp', 'tls', 'ws', 'udp', 'mem')[number % 5], 'remote': f'10.0.{number // 250 % 250}.{number % 250}:{40000 + number % 20000}',
            'state': 'disconnecting' if number % 97 == 0 else 'suspended' if number % 37 == 0 else 'connected', 'connected_seconds': pick.random() * 40000, 'idle_seconds': pick.random() * 30,
            'messages_received': pick.randrange(1_000_000), 'messages_sent': pick.randrange(1_000_000), 'bytes_received': pick.randrange(10**9),
            'bytes_sent': pick.randrange(10**9), 'errors': int(pick.random() < .05), 'dropped': pick.randrange(50) if pick.random() < .03 else 0,
            'rate_limited': 0, 'reliable': number % 37 == 0, 'resumes': number // 37 if number % 37 == 0 else 0,
            'unacknowledged_messages': 3 if number % 37 == 0 else 0, 'unacknowledged_bytes': 192 if number % 37 == 0 else 0,
            'queued_messages': pick.randrange(3), 'queued_bytes': pick.randrange(4000), 'buffer_bytes': pick.randrange(9000),
            'round_trip_us': None if number % 11 == 0 else 40 + pick.random() * 400, 'groups': number % 4,
        }
        return number

    def tick(self):
        with self.lock:
            self.sample(time.time())
            for session in self.sessions.values():
                session['connected_seconds'] += 1
                session['messages_received'] += self.random.randrange(3)
                session['idle_seconds'] = self.random.random() * 30
            if self.random.random() < .7:
                self.event(self.random.choice(('info', 'info', 'warn', 'error')), time.time())

    def sample(self, at):
        wave = 1 + .35 * math.sin(at / 60) + .1 * self.random.random()
        burst = self.random.random() < .02
        handler = 22 * wave
        self.samples.append({
            'at': int(at * 1000), 'messages_received': 182_000 * wave, 'messages_sent': 171_000 * wave, 'bytes_received': 11_900_000 * wave,
            'bytes_sent': 9_800_000 * wave, 'connections': len(self.sessions) - int(30 * math.sin(at / 200)), 'opened': self.random.randrange(8),
            'closed': self.random.randrange(8), 'errors': self.random.randrange(4) if burst else 0, 'dropped': self.random.randrange(900) if burst else 0,
            'lost': 0, 'rate_limited': 0, 'throttled': 0, 'shed': 0, 'suspended': sum(session['state'] == 'suspended' for session in self.sessions.values()),
            'resumed': self.random.randrange(2), 'expired': 0, 'unacknowledged': 0, 'queued_bytes': int(40_000 * wave + (900_000 if burst else 0)), 'buffer_bytes': int(9_000_000 * wave),
            'resident_bytes': int(150_000_000 + 9_000_000 * wave), 'handler_p50_us': handler, 'handler_p95_us': 4.1 * handler,
            'handler_p99_us': (90 if burst else 14) * handler, 'handler_max_us': 200 * handler, 'ping_p50_us': 61 * wave, 'ping_p99_us': 190 * wave,
            'request_p50_us': None, 'request_p99_us': None,
        })
        if len(self.samples) > KEPT_SAMPLES:
            self.samples.pop(0)
            self.first_sample += 1

    def event(self, level, at, text=None):
        kind, code, words = {'info': ('session_opened', None, 'a session opened'), 'warn': ('session_closed', 'idle_timeout', 'nothing received for 30s'),
                             'error': ('protocol_error', 'invalid_frame', 'the magic is wrong: <b>GET /</b>')}[level]
        self.events.append({'seq': self.first_event + len(self.events), 'at': int(at * 1000), 'level': level, 'kind': kind,
                            'session': self.random.randrange(1, max(2, len(self.sessions))), 'code': code, 'text': text or words})
        if len(self.events) > KEPT_EVENTS:
            self.events.pop(0)
            self.first_event += 1

    def status(self, admin):
        return {'name': self.name, 'version': '0.1.0', 'state': self.state, 'at': int(time.time() * 1000), 'started_at': int(self.began * 1000),
                'uptime_seconds': time.time() - self.began + 10_000, 'admin': admin, 'read_only': self.token is None,
                'limits': {'max_connections': 20_000, 'message_size': 1 << 20, 'outbox_bytes': 1 << 20, 'outbox_messages': 1024, 'when_full': 'wait',
                           'session_rate': {'messages_per_second': 100, 'bytes_per_second': 1 << 20, 'burst_seconds': 1.0, 'when_exceeded': 'wait'},
                           'ip_rate': None, 'server_rate': None, 'handshakes_per_second': 500, 'handshakes_per_second_per_ip': 0, 'memory_budget': 1 << 30,
                           'reliable': {'window': 1 << 20, 'resume_seconds': 30.0, 'suspended_sessions': 10_000}}}

    def history(self, query):
        since = max(0, int(query.get('since', 0)) - self.first_sample)
        samples = self.samples[since:]
        return {'first': self.first_sample + min(since, len(self.samples)), 'next': self.first_sample + len(self.samples), 'interval_seconds': 1.0,
                'columns': {name: [sample[name] for sample in samples] for name in COLUMNS}}

    def page(self, query):
        sort, order = query.get('sort', 'id'), query.get('order', 'asc')
        if sort not in NUMBERS + TEXTS or order not in ('asc', 'desc'):
            raise Refused(400, f'cannot sort by {sort} {order}')
        text, transport, group = query.get('filter', '').lower(), query.get('transport', ''), query.get('group', '')
        state = query.get('state', '')
        parts = ('client_id', 'identity', 'remote', 'id', 'transport')
        found = [session for session in self.sessions.values()
                 if (not transport or session['transport'] == transport) and (not state or session['state'] == state) and (not group or session['groups'] > int(group.split('-')[-1]))
                 and (not text or any(text in str(session[part] or '').lower() for part in parts))]
        least = -1 if sort in NUMBERS else ''
        found.sort(key=lambda session: least if session[sort] is None else session[sort], reverse=order == 'desc')
        offset, limit = int(query.get('offset', 0)), int(query.get('limit', 50))
        return {'total': len(self.sessions), 'matched': len(found), 'offset': offset, 'sessions': found[offset:offset + limit]}

    def session(self, number, admin):
        if number not in self.sessions:
            raise Refused(404, f'there is no session {number}', 'session_not_found')
        session = self.sessions[number]
        visible = admin or self.token is None
        return {**session, 'local': '127.0.0.1:7600', 'groups': [f'group-{n}' for n in range(session['groups'])], 'pipeline': ['lz4'] if number % 2 else [],
                'tls': {'version': 'TLSv1.3', 'cipher_suite': 'TLS13_AES_256_GCM_SHA384', 'server_name': 'example.net', 'alpn': 'msgi/1', 'peer': None}
                if session['transport'] == 'tls' else None,
                'websocket': {'path': '/chat', 'subprotocol': 'msgi.v1'} if session['transport'] == 'ws' else None,
                'data': {'room': '<i>seven</i>'} if visible else {}, 'data_count': 1}

    def groups(self, query):
        text = query.get('filter', '').lower()
        total = 4
        found = [{'name': f'group-{n}', 'members': len(self.sessions) * (3 - n) // 4, 'messages': 512 * (n + 1), 'bytes': 32_768 * (n + 1)}
                 for n in range(3)] + [{'name': '<marquee>', 'members': 1, 'messages': 0, 'bytes': 0}]
        found = [group for group in found if text in group['name']]
        offset, limit = int(query.get('offset', 0)), int(query.get('limit', 50))
        return {'total': total, 'matched': len(found), 'offset': offset, 'groups': found[offset:offset + limit]}

    def listeners(self):
        return {'listeners': [{'url': f'{scheme}://127.0.0.1:{port}', 'transport': scheme, 'addr': f'127.0.0.1:{port}', 'accepted': 40_000 + port,
                               'refused': port % 2, 'accepting': self.state == 'running'} for scheme, port in (('tcp', 7600), ('ws', 7601), ('udp', 7602))]}

    def recent(self, query):
        since = max(0, int(query.get('since', 0)) - self.first_event)
        return {'first': self.first_event + min(since, len(self.events)), 'next': self.first_event + len(self.events), 'suppressed': 0, 'events': self.events[since:]}

    def post(self, number, action, body):
        if number not in self.sessions:
            raise Refused(404, f'there is no session {number}', 'session_not_found')
        self.posts.append((number, action, body))
        if action == 'disconnect':
            del self.sessions[number]
        elif body.get('text') == 'too much':
            raise Refused(409, 'the queue of the session is full', 'queue_full')
        return {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_request(None)

    def do_POST(self):
        self.handle_request(self.rfile.read(int(self.headers.get('Content-Length', 0))))

    def handle_request(self, body):
        url = urllib.parse.urlsplit(self.path)
        # Below a prefix as well as at the root.
        path = url.path.removeprefix('/below/it')
        try:
            if body is None and not path.startswith('/api/'):
                self.asset(path)
                return
            answer = self.api(path.removeprefix('/api/v1/').split('/'), dict(urllib.parse.parse_qsl(url.query)), body)
            self.reply(200 if body is None else 202, 'application/json', json.dumps(answer, separators=(',', ':')).encode())
        except Refused as why:
            error = {'status': why.status, 'message': str(why)} | ({'code': why.code} if why.code else {})
            self.reply(why.status, 'application/json', json.dumps({'error': error}).encode())

    def api(self, path, query, body):
        facts = self.server.facts
        given = self.headers.get('Authorization')
        admin = facts.token is not None and given == f'Bearer {facts.token}'
        if given is not None and not admin and facts.token is not None or facts.guarded and not admin:
            raise Refused(401, 'the token is missing or wrong')
        with facts.lock:
            match path, body:
                case ['status'], None: return facts.status(admin)
                case ['history'], None: return facts.history(query)
                case ['sessions'], None: return facts.page(query)
                case ['sessions', number], None: return facts.session(int(number), admin)
                case ['groups'], None: return facts.groups(query)
                case ['listeners'], None: return facts.listeners()
                case ['events'], None: return facts.recent(query)
                case ['sessions', number, ('disconnect' | 'messages') as action], bytes():
                    if facts.token is None:
                        raise Refused(403, 'read-only: no admin token is configured')
                    if not admin:
                        raise Refused(401, 'the token is missing or wrong')
                    return facts.post(int(number), action, json.loads(body))
        raise Refused(404, 'there is nothing here')

    def asset(self, path):
        name = 'index.html' if path in ('', '/') else path.removeprefix('/assets/')
        file = os.path.join(ASSETS, name)
        if '/' in name or not os.path.isfile(file) or os.path.splitext(name)[1] not in TYPES:
            raise Refused(404, 'there is nothing here')
        with open(file, 'rb') as content:
            self.reply(200, TYPES[os.path.splitext(name)[1]], content.read())

    def reply(self, status, kind, body):
        self.send_response(status)
        for name, value in (('Content-Type', kind), ('Content-Length', str(len(body))), ('Cache-Control', 'no-store'), ('Content-Security-Policy', CSP),
                            ('X-Content-Type-Options', 'nosniff'), ('Referrer-Policy', 'no-referrer'), ('Cross-Origin-Resource-Policy', 'same-origin'),
                            ('Cross-Origin-Opener-Policy', 'same-origin')):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, facts, port=0):
        super().__init__(('127.0.0.1', port), Handler)
        self.facts = facts
        self.connections = set()
        self.ended = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()
        threading.Thread(target=self.tick, daemon=True).start()

    def tick(self):
        while not self.ended.wait(1):
            self.facts.tick()

    def handle_error(self, *_):
        """A browser that is gone is nothing to tell of."""

    def stop(self):
        self.ended.set()
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--port', type=int, default=0)
    parser.add_argument('--sessions', type=int, default=1000)
    parser.add_argument('--token')
    parser.add_argument('--guarded', action='store_true')
    parser.add_argument('--hostile', action='store_true')
    options = parser.parse_args()
    server = Server(Facts(options.sessions, options.token, options.guarded, options.hostile), options.port)
    print(f'dashboard http://127.0.0.1:{server.server_port}', flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.stop()


if __name__ == '__main__':
    main()
