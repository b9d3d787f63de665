"""Chromium without a window, driven through its debugging pipe with nothing but the standard library."""

import base64
import contextlib
import fcntl
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time

SECONDS = 30
# Listens before the page's own scripts run. Nothing of it is visible to them but one name.
LISTENER = '''
window.seen = { violations: [], errors: [], long: [], harmed: 0 };
document.addEventListener("securitypolicyviolation", (event) => seen.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
addEventListener("error", (event) => seen.errors.push(String(event.message)));
addEventListener("unhandledrejection", (event) => seen.errors.push(String(event.reason)));
new PerformanceObserver((list) => { for (const task of list.getEntries()) seen.long.push([task.startTime, task.duration]); }).observe({ type: "longtask", buffered: true });
'''
KEYS = {'Tab': 9, 'Enter': 13, 'Escape': 27, ' ': 32, 'End': 35, 'Home': 36, 'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40}


def find():
    return next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


class Browser:
    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_it, self.commands = os.pipe()
        self.answers, from_it = os.pipe()
        # Out of the way of 3 and 4, which they become.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_it, from_it)]
        arguments = [find(), '--headless=new', '--remote-debugging-pipe', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
                     '--disable-extensions', '--disable-background-networking', '--disable-component-update', '--hide-scrollbars', '--no-proxy-server',
                     f'--user-data-dir={self.profile.name}', 'about:blank']
        if os.geteuid() == 0:
            # Its sandbox does not run as root. The page is our own.
            arguments.insert(1, '--no-sandbox')
        self.process = subprocess.Popen(arguments, pass_fds=(3, 4), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        preexec_fn=lambda: (os.dup2(ends[0], 3), os.dup2(ends[1], 4)))
        for end in (to_it, from_it, *ends):
            os.close(end)
        self.number, self.waiting, self.pages = 0, {}, {}
        self.lock = threading.Lock()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        rest = b''
        while part := os.read(self.answers, 1 << 20):
            *messages, rest = (rest + part).split(b'\0')
            for message in map(json.loads, messages):
                if 'id' in message:
                    self.waiting.pop(message['id']).put(message)
                elif page := self.pages.get(message.get('sessionId')):
                    page.heard(message['method'], message['params'])
        for answer in self.waiting.values():
            answer.put({'error': {'message': 'the browser has ended'}})

    def call(self, method, parameters=None, session=None):
        answer = queue.SimpleQueue()
        with self.lock:
            self.number += 1
            self.waiting[self.number] = answer
            message = {'id': self.number, 'method': method, 'params': parameters or {}} | ({'sessionId': session} if session else {})
            data = json.dumps(message).encode() + b'\0'
            while data:
                data = data[os.write(self.commands, data):]
        message = answer.get(timeout=SECONDS)
        if 'error' in message:
            raise RuntimeError(f'{method}: {message["error"]["message"]}')
        return message['result']

    def page(self, width=1440, height=1000):
        # A context of its own: nothing stored is shared with other pages.
        context = self.call('Target.createBrowserContext')['browserContextId']
        target = self.call('Target.createTarget', {'url': 'about:blank', 'browserContextId': context, 'width': width, 'height': height})['targetId']
        session = self.call('Target.attachToTarget', {'targetId': target, 'flatten': True})['sessionId']
        return Page(self, session, target, width, height)

    def close(self):
        try:
            self.call('Browser.close')
            self.process.wait(10)
        except Exception:
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()


class Page:
    def __init__(self, browser, session, target, width, height):
        self.browser, self.session, self.target = browser, session, target
        self.requests, self.complaints, self.trace = [], [], []
        self.traced = threading.Event()
        browser.pages[session] = self
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            self.call(f'{domain}.enable')
        self.call('Page.addScriptToEvaluateOnNewDocument', {'source': LISTENER})
        self.size(width, height)

    def call(self, method, parameters=None):
        return self.browser.call(method, parameters, self.session)

    def heard(self, method, parameters):
        if method == 'Network.requestWillBeSent':
            self.requests.append(parameters['request']['url'])
        elif method == 'Tracing.dataCollected':
            self.trace += parameters['value']
        elif method == 'Tracing.tracingComplete':
            self.traced.set()
        elif method == 'Runtime.exceptionThrown':
            self.complaints.append(parameters['exceptionDetails'].get('exception', {}).get('description') or parameters['exceptionDetails']['text'])
        elif method == 'Runtime.consoleAPICalled' and parameters['type'] in ('error', 'warning', 'assert'):
            self.complaints.append(' '.join(str(part.get('value', part.get('description'))) for part in parameters['args']))
        elif method == 'Log.entryAdded' and parameters['entry']['level'] in ('error', 'warning') and parameters['entry']['source'] != 'network':
            # What the network says is expected where a token is wrong or a server gone. Reading pixels is what only tests do.
            if 'willReadFrequently' not in parameters['entry']['text']:
                self.complaints.append(parameters['entry']['text'])

    def open(self, url):
        self.call('Page.navigate', {'url': url})
        self.wait('document.readyState === "complete" && location.href !== "about:blank"')

    def size(self, width, height, mobile=False):
        self.call('Emulation.setDeviceMetricsOverride', {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': mobile})

    def scheme(self, name, reduced=False):
        self.call('Emulation.setEmulatedMedia', {'features': [{'name': 'prefers-color-scheme', 'value': name},
                                                              {'name': 'prefers-reduced-motion', 'value': 'reduce' if reduced else 'no-preference'}]})

    @contextlib.contextmanager
    def tasks(self):
        """A list that in the end has the tasks of pages' main threads: milliseconds that passed and that were computed."""
        found = []
        self.trace.clear()
        self.traced.clear()
        self.call('Tracing.start', {'transferMode': 'ReportEvents', 'traceConfig': {'includedCategories': ['toplevel']}})
        yield found
        self.call('Tracing.end')
        assert self.traced.wait(SECONDS)
        mains = {(event['pid'], event['tid']) for event in self.trace if event['name'] == 'thread_name' and event['args']['name'] == 'CrRendererMain'}
        found += [(event['dur'] / 1000, event['tdur'] / 1000) for event in self.trace
                  if event['name'].endswith('RunTask') and 'tdur' in event and (event['pid'], event['tid']) in mains]

    def run(self, expression):
        result = self.call('Runtime.evaluate', {'expression': expression, 'awaitPromise': True, 'returnByValue': True})
        if 'exceptionDetails' in result:
            raise RuntimeError(f'{expression}: {result["exceptionDetails"].get("exception", {}).get("description")}')
        return result['result'].get('value')

    def wait(self, expression, seconds=SECONDS):
        """Until an expression holds."""
        ends = time.monotonic() + seconds
        while True:
            try:
                value = self.run(f'Boolean({expression})')
            except RuntimeError as why:
                # While one document takes the place of another, there is none.
                value = None
                if 'context' not in str(why) and 'null' not in str(why):
                    raise
            if value:
                return
            if time.monotonic() > ends:
                raise AssertionError(f'never true: {expression}')
            time.sleep(.03)

    def text(self, selector):
        return self.run(f'document.querySelector({json.dumps(selector)}).textContent')

    def click(self, selector):
        # Where it is when it has come to rest there and nothing covers it.
        place = self.run(f'''new Promise((found) => {{ let last = ""; const end = performance.now() + 10_000; const look = () => {{
            const one = document.querySelector({json.dumps(selector)});
            one?.scrollIntoView({{ block: "nearest", inline: "nearest" }});
            const box = one?.getBoundingClientRect() ?? new DOMRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const hit = one?.contains(document.elementFromPoint(x, y));
            if (hit && last === `${{x}} ${{y}}` || performance.now() > end) {{ found([x, y, Boolean(hit)]); return; }}
            last = `${{x}} ${{y}}`;
            requestAnimationFrame(look); }}; look(); }})''')
        assert place[2], f'{selector} cannot be clicked'
        for kind in ('mouseMoved', 'mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', {'type': kind, 'x': place[0], 'y': place[1], 'button': 'left' if kind != 'mouseMoved' else 'none', 'clickCount': 1})

    def press(self, key, shift=False):
        text = {'Enter': '\r', ' ': ' '}.get(key, key if len(key) == 1 else '')
        common = {'key': key, 'code': 'Space' if key == ' ' else key, 'windowsVirtualKeyCode': KEYS.get(key, 0), 'modifiers': 8 if shift else 0}
        self.call('Input.dispatchKeyEvent', {'type': 'keyDown', 'text': text, **common})
        self.call('Input.dispatchKeyEvent', {'type': 'keyUp', **common})

    def type(self, text):
        self.call('Input.insertText', {'text': text})

    def screenshot(self, file, full=False):
        image = self.call('Page.captureScreenshot', {'format': 'png', 'captureBeyondViewport': full})
        with open(file, 'wb') as out:
            out.write(base64.b64decode(image['data']))

    def close(self):
        self.browser.call('Target.closeTarget', {'targetId': self.target})
        self.browser.pages.pop(self.session, None)
