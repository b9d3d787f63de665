"""The dashboard's page in Chromium: what it shows, how it is worked, and what it does not do.

    run.py (--mock | --netsys PROGRAM) [--only NAME…] [--sessions N] [--screenshots DIR]

`--mock` serves the page's files from this tree with made-up facts; `--netsys` starts the program and opens real
sessions. Prints a line for each check; fails if one did not hold. Needs Chromium and nothing else.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import time
import traceback
import urllib.parse

import browser
import servers

TOKEN = 'the-token-of-this-test-0123456789'
PAGE = 50
# The figures that the dashboard promises.
FIRST_PAINT_MILLIS, LONGEST_TASK_MILLIS = 1000, 50
WATCHED_SECONDS = 10


class Checks:
    def __init__(self, make, screenshots, many):
        self.make, self.screenshots, self.many = make, screenshots, many
        self.chromium = browser.Browser()
        self.figures = {}

    def close(self):
        self.chromium.close()

    @contextlib.contextmanager
    def page(self, width=1440, height=1000, loaded=True, path='', **options):
        """A page of a new server; whatever it complained about in the end is a failure."""
        server = self.make(**{'sessions': 120, 'token': TOKEN, **options})
        try:
            page = self.chromium.page(width, height)
            page.scheme('light')
            page.open(server.url + path)
            if loaded:
                page.wait('document.querySelectorAll("#sessions-table tbody tr").length > 0 && document.querySelector("#state").dataset.state === "running"')
            yield page, server
            seen = page.run('seen')
            assert seen['violations'] == [] and seen['errors'] == [] and not page.run('window.harmed'), seen
            assert page.complaints == [], page.complaints
            assert page.run('document.querySelector("#banner").hidden'), page.text('#banner')
            foreign = [url for url in page.requests if not url.startswith((server.url, 'data:'))]
            assert foreign == [], foreign
            page.close()
        finally:
            server.stop()

    def rows(self, page, column=1):
        return page.run(f'[...document.querySelectorAll("#sessions-table tbody tr:not(.empty)")].map((row) => row.children[{column - 1}].textContent)')

    def after_refreshes(self, page, count=2):
        """Waits until the table of sessions has been fetched so often, and shown."""
        before = self.fetched(page)
        end = time.monotonic() + browser.SECONDS
        while self.fetched(page) < before + count + 1:
            assert time.monotonic() < end, 'the table is not refreshed'
            time.sleep(.05)

    @staticmethod
    def fetched(page):
        return sum('/api/v1/sessions?' in url for url in list(page.requests))

    def shot(self, page, name, full=False):
        if self.screenshots:
            page.screenshot(os.path.join(self.screenshots, f'{name}.png'), full)

    def unlock(self, page, token=TOKEN):
        page.click('#access')
        page.wait('document.querySelector("#unlock").open && document.activeElement.id === "token"')
        page.type(token)
        page.press('Enter')

    # What it shows.

    def shows_the_server(self):
        with self.page() as (page, server):
            assert page.text('#state') == 'running' and page.text('#version') not in ('', '–') and page.text('#uptime') != '–'
            page.wait('[...document.querySelectorAll(".tile .value")].every((tile) => tile.textContent !== "–" || tile.id === "tile-latency")')
            connections = page.text('#tile-connections')
            assert int(connections.replace(',', '')) > 0, connections
            assert len(self.rows(page)) == PAGE
            assert page.run('document.title').endswith('network-system')
            names = page.run('[...document.querySelectorAll("button, input, select")].filter((one) => one.checkVisibility() && !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).map((one) => one.id)')
            if isinstance(server, servers.Mock):
                server.facts.state = 'draining'
                page.wait('document.querySelector("#state").textContent === "draining"')
            assert names == [], f'controls without a name: {names}'

    def draws_the_plots(self):
        with self.page() as (page, _):
            colors = '''[...document.querySelectorAll(".canvas canvas")].map((canvas) => {
                const data = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer); return new Set(data).size; })'''
            page.wait(f'{colors}.filter((count) => count > 8).length === 6')
            before = page.text('#footer-note')
            page.wait(f'document.querySelector("#footer-note").textContent !== {json.dumps(before)}')
            page.run('document.querySelector(".canvas").focus()')
            page.press('ArrowLeft')
            page.wait('/^\\d\\d:\\d\\d:\\d\\d: in /.test(document.querySelector(".canvas").getAttribute("aria-valuetext"))')
            page.click('#log')
            page.wait(f'{colors}.filter((count) => count > 8).length === 6')
            page.click('.key')
            assert page.run('document.querySelector(".key").getAttribute("aria-pressed")') == 'false'
            self.shot(page, 'light', True)

    def fits_a_phone(self):
        with self.page(360, 740) as (page, _):
            page.size(360, 740, mobile=True)
            for tab in ('groups', 'listeners', 'events', 'sessions'):
                page.click(f'#tab-{tab}')
                page.wait(f'!document.querySelector("#panel-{tab}").hidden && document.querySelector("#panel-{tab} tbody tr")')
                width = page.run('Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)')
                assert width <= 360, f'{tab}: {width} px'
            page.click('#sessions-table tbody button')
            page.wait('document.querySelector("#details").open')
            self.shot(page, 'phone-details')
            assert page.run('document.querySelector("#details").scrollWidth <= 360')
            page.press('Escape')
            page.run('scrollTo(0, 0)')
            self.shot(page, 'phone')

    def follows_light_and_dark(self):
        with self.page() as (page, server):
            ground = 'getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, part) => sum + Number(part), 0)'
            assert page.run(ground) > 600
            page.scheme('dark')
            assert page.run(ground) < 150
            page.wait('document.querySelector(".canvas canvas")')
            self.shot(page, 'dark')
            page.click('#theme')
            assert page.text('#theme') == 'Theme: light' and page.run(ground) > 600
            page.open(server.url)
            page.wait('document.querySelector("#theme").textContent === "Theme: light"')
            assert page.run(ground) > 600, 'the choice is not kept'
            # The application that it is mounted in may well keep a theme of its own.
            page.click('#log')
            page.click('#window label:first-of-type')
            kept = page.run('Object.keys(localStorage).sort()')
            assert kept == [f'network-system-dashboard.{name}' for name in ('log', 'theme', 'window')], kept
            page.scheme('light', reduced=True)
            assert page.run('getComputedStyle(document.querySelector(".tiles")).transitionDuration') == '0s'

    def lives_below_a_path(self):
        if self.make is not servers.Mock:
            return
        with self.page(path='below/it/') as (page, _):
            assert all('/below/it/' in url for url in page.requests if not url.startswith('data:')), page.requests

    def lists_groups_listeners_and_events(self):
        with self.page() as (page, server):
            page.click('#tab-listeners')
            page.wait('document.querySelector("#listeners-table tbody th")?.textContent.startsWith("tcp://")')
            page.wait('document.querySelectorAll("#limits dd").length === 11')
            page.click('#tab-events')
            page.wait('document.querySelectorAll("#events-table tbody tr:not(.empty)").length > 0')
            assert page.run('document.querySelectorAll("#events-table tbody tr").length') <= 100
            newest = page.run('[...document.querySelectorAll("#events-table tbody tr")].slice(0, 20).map((row) => row.firstChild.title)')
            assert newest == sorted(newest, reverse=True), newest
            page.click('#tab-groups')
            page.wait('document.querySelector("#groups-table tbody tr")')
            if isinstance(server, servers.Mock):
                page.click('#groups-table tbody tr:nth-child(3) button')
                page.wait('!document.querySelector("#sessions-group").hidden && /of 30 /.test(document.querySelector("#sessions-pager").textContent)')
                page.click('#sessions-group')
                page.wait('document.querySelector("#sessions-group").hidden && /of 120$/.test(document.querySelector("#sessions-pager .number").textContent)')

    # Working with the table.

    def sorts_by_each_column(self):
        with self.page() as (page, _):
            titles = page.run('[...document.querySelectorAll("#sessions-table thead th")].map((cell) => cell.textContent)')
            keys = []
            for number, _ in enumerate(titles, 1):
                head = f'#sessions-table thead th:nth-child({number})'
                for _ in range(2):
                    seen = len(page.requests)
                    page.click(f'{head} button')
                    order = page.run(f'document.querySelector({json.dumps(head)}).ariaSort')
                    asked = self.request(page, seen, lambda query: query['order'] == order.removesuffix('ending'))
                    keys.append(asked['sort'])
                assert page.run('document.querySelectorAll("[aria-sort]").length') == 1
            assert len(set(keys)) == len(titles), keys
            # By keyboard, and checked by what the rows say.
            page.run('document.querySelector("#sessions-table thead button").focus()')
            page.press('Enter')
            page.wait('document.querySelector("#sessions-table thead th").ariaSort === "ascending"')
            page.press(' ')
            page.wait('document.querySelector("#sessions-table thead th").ariaSort === "descending"')
            page.wait('Number(document.querySelector("#sessions-table tbody button").textContent) >= 120')
            ids = page.run('[...document.querySelectorAll("#sessions-table tbody button")].map((one) => Number(one.textContent))')
            assert ids == sorted(ids, reverse=True), ids

    @staticmethod
    def request(page, since, matches):
        """The query of the first request for sessions since then that matches."""
        end = time.monotonic() + browser.SECONDS
        while time.monotonic() < end:
            for url in list(page.requests)[since:]:
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
                if '/api/v1/sessions?' in url and matches(query):
                    return query
            time.sleep(.02)
        raise AssertionError('it was not asked for')

    def filters_and_pages(self):
        with self.page() as (page, _):
            number = 'document.querySelector("#sessions-pager .number").textContent'
            page.wait(f'{number} === "1–50 of 120"')
            for button, expected in ((3, '51–100'), (4, '101–120'), (2, '51–100'), (1, '1–50'), (1, '1–50')):
                page.click(f'#sessions-pager button:nth-of-type({button})')
                page.wait(f'{number} === "{expected} of 120"')
            page.click('#sessions-pager button:nth-of-type(4)')
            page.wait(f'{number} === "101–120 of 120"')
            seen = len(page.requests)
            page.click('#sessions-filter')
            for letter in 'c-11':
                page.type(letter)
            page.wait(f'{number}.startsWith("1–11 of 11 ")')
            asked = {url for url in page.requests[seen:] if 'filter=' in url}
            assert len(asked) == 1, f'typing is not waited for: {asked}'
            assert all('c-11' in name for name in self.rows(page, 2))
            page.run('document.querySelector("#sessions-filter").select()')
            page.type('there is no such session')
            page.wait('document.querySelector("#sessions-table .empty")')
            page.run('document.querySelector("#sessions-filter").select()')
            page.press('Escape')
            page.wait(f'{number} === "1–50 of 120"')
            page.run('const one = document.querySelector("#sessions-transport"); one.value = "tcp"; one.dispatchEvent(new Event("change"))')
            page.wait('[...document.querySelectorAll("#sessions-table tbody tr")].every((row) => row.children[2].textContent === "tcp")')

    def shows_suspended_sessions_as_such(self):
        with self.page(sessions=30) as (page, server):
            server.suspend('gone-for-a-while')
            page.wait('document.querySelector("#note-connections").textContent.startsWith("1 suspended")')
            page.run('const one = document.querySelector("#sessions-state"); one.value = "suspended"; one.dispatchEvent(new Event("change"))')
            page.wait('document.querySelectorAll("#sessions-table tbody tr:not(.empty)").length === 1')
            assert self.rows(page, 1)[0].endswith('suspended') and self.rows(page, 2)[0].startswith('gone-for-a-while'), self.rows(page, 1)
            page.click('#sessions-table tbody tr th button')
            page.wait('document.querySelector("#details").open && /1 messages/.test(document.querySelector("#details").textContent)')
            details = page.text('#details')
            assert 'Reliable session' in details and 'suspended' in details and '0 times' in details, details
            page.press('Escape')
            page.click('#tab-listeners')
            page.wait('/Rate of a session/.test(document.querySelector("#limits").textContent)')
            limits = page.text('#limits')
            assert 'messages/s' in limits and 'kept for' in limits, limits

    def refreshing_disturbs_nobody(self):
        with self.page(1000, 700) as (page, server):
            # All on one page, so that no row leaves it when the order changes.
            page.click('#sessions-filter')
            page.type('c-1')
            page.wait('document.querySelector("#sessions-pager .number").textContent.startsWith("1–32 of 32 ")')
            third = '#sessions-table tbody tr:nth-child(3) button'
            page.run(f'document.querySelector({json.dumps(third)}).focus()')
            page.run('document.querySelector("#sessions-scroll").scrollLeft = 120; scrollTo(0, 900)')
            place = page.run('[scrollY, document.querySelector("#sessions-scroll").scrollLeft, document.activeElement.dataset.id].join()')
            assert page.run('scrollY') > 0
            self.after_refreshes(page)
            assert place == page.run('[scrollY, document.querySelector("#sessions-scroll").scrollLeft, document.activeElement.dataset.id].join()')
            # Rows that move leave the focus where it is: on its session.
            page.run('window.moved = document.activeElement; moved.addEventListener("blur", () => seen.errors.push("the focus was lost"))')
            page.run('document.querySelector("#sessions-table thead th:nth-child(6) button").click()')
            self.after_refreshes(page, 1)
            assert page.run('document.activeElement === moved && seen.errors.length === 0')
            page.run('const row = document.querySelector("#sessions-table tbody tr:nth-child(2)"); getSelection().selectAllChildren(row.children[3])')
            text = page.run('String(getSelection())')
            self.after_refreshes(page)
            assert text and text == page.run('String(getSelection())')
            assert 'selected' in page.text('#sessions-note')
            # Only what changes by itself is held up.
            page.run('seen.errors = seen.errors.filter((text) => text !== "the focus was lost")')
            page.run('document.querySelector("#sessions-table thead button").click()')
            page.wait('getSelection().isCollapsed && [...document.querySelectorAll("#sessions-table tbody button")].every((one, i, all) => i === 0 || Number(one.textContent) > Number(all[i - 1].textContent))')

    def shows_details(self):
        with self.page() as (page, _):
            page.click('#sessions-table tbody tr:nth-child(2) td:nth-child(4)')
            page.wait('document.querySelector("#details").open')
            page.wait('document.querySelectorAll("#details section:not([hidden]) dd").length > 12')
            assert page.text('#details-title') == f'Session {self.rows(page)[1].strip()}' or page.text('#details-title').split()[1] in self.rows(page)[1]
            # The dialog keeps the focus inside.
            for _ in range(8):
                page.press('Tab')
                assert page.run('document.activeElement === document.body || document.querySelector("#details").contains(document.activeElement)')
            page.press('Escape')
            page.wait('!document.querySelector("#details").open')
            page.run('document.querySelector("#sessions-table tbody tr:nth-child(3) button").focus()')
            number = page.run('document.activeElement.dataset.id')
            page.press('Enter')
            page.wait('document.querySelector("#details").open')
            self.shot(page, 'details')
            page.press('Escape')
            page.wait(f'!document.querySelector("#details").open && document.activeElement.dataset.id === "{number}"')

    def works_by_keyboard_alone(self):
        with self.page() as (page, _):
            page.press('Tab')
            assert page.run('document.activeElement.className') == 'skip'
            page.press('Enter')
            page.wait('document.activeElement.id === "tables"')
            page.run('document.activeElement.blur(); scrollTo(0, 0); getSelection().removeAllRanges(); document.querySelector("h1").tabIndex = -1; document.querySelector("h1").focus()')
            reached, unseen = [], []
            for _ in range(90):
                page.press('Tab')
                name = page.run('''(() => { const one = document.activeElement; if (one === document.body) return null;
                    const drawn = (target) => { const style = getComputedStyle(target); return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0; };
                    const visible = drawn(one) || (one.nextElementSibling && drawn(one.nextElementSibling));
                    return [one.id || one.className || one.textContent || one.name, visible].join("|"); })()''')
                if name is None or (reached and name.split('|')[0] == reached[0]):
                    break
                reached.append(name.split('|')[0])
                if name.endswith('false'):
                    unseen.append(name)
            for wanted in ('access', 'theme', 'log', 'canvas', 'key', 'tab-sessions', 'sessions-filter', 'sessions-transport', 'sessions-live', 'link'):
                assert wanted in reached, f'{wanted} is not reached: {reached}'
            assert reached.count('link') == 1, 'the rows are one stop'
            assert unseen == [], f'the focus cannot be seen on {unseen}'
            page.run('document.querySelector("#sessions-table tbody button").focus()')
            page.press('ArrowDown')
            page.press('ArrowDown')
            assert page.run('document.activeElement.closest("tr").rowIndex') == 3
            page.run('document.querySelector("#tab-sessions").focus()')
            page.press('ArrowRight')
            assert page.run('document.activeElement.id') == 'tab-groups' and not page.run('document.querySelector("#panel-groups").hidden')

    # What only an operator can do.

    def refuses_a_wrong_token(self):
        with self.page() as (page, _):
            self.unlock(page, 'wrong')
            page.wait('document.querySelector("#unlock .result").textContent === "That is not the token."')
            assert page.run('document.activeElement.id') == 'token'
            self.shot(page, 'wrong-token')
            page.press('Escape')
            page.wait('!document.querySelector("#unlock").open && document.activeElement.id === "access" && document.querySelector("#token").value === ""')
            assert page.text('#access') == 'Unlock'
            # It goes on as before.
            self.after_refreshes(page)
            assert page.run('document.querySelector("#banner").hidden')

    def sends_and_disconnects(self):
        with self.page() as (page, server):
            self.unlock(page)
            page.wait('document.querySelector("#access").textContent === "Lock" && !document.querySelector("#unlock").open')
            page.click('#sessions-table tbody tr:nth-child(4) button')
            page.wait('document.querySelector("#details").open && document.querySelector("#send-text").checkVisibility()')
            number = int(page.text('#details-title').split()[1])
            page.run('document.querySelector("#send-text").focus()')
            page.type('grüße <b>an alle</b>')
            page.click('#details form:nth-of-type(1) button')
            page.wait('document.querySelector("#details .result").textContent === "Queued for sending."')
            server.check_message(number, 'grüße <b>an alle</b>')
            self.shot(page, 'admin')
            page.run('document.querySelector("#disconnect-reason").focus()')
            page.type('enough for today')
            page.press('Enter')
            page.wait('/ended/.test(document.querySelector("#details .gone").textContent)')
            server.check_disconnect(number, 'enough for today')
            page.press('Escape')
            page.wait(f'!document.querySelector(\'#sessions-table button[data-id="{number}"]\')')
            # The browser tells of the closing a moment later; then the table takes the focus.
            page.wait('document.activeElement !== document.body')
            page.click('#access')
            page.wait('document.querySelector("#access").textContent === "Unlock"')

    def says_why_it_is_read_only(self):
        with self.page(token=None) as (page, _):
            page.wait('document.querySelector("#access").textContent === "Read-only"')
            page.click('#access')
            page.wait('/no admin token is configured/.test(document.querySelector("#unlock").textContent)')
            assert not page.run('document.querySelector("#token").checkVisibility()')
            page.press('Escape')
            page.click('#sessions-table tbody button')
            page.wait('/read-only/.test(document.querySelector("#details").textContent)')
            assert not page.run('document.querySelector("#send-text").checkVisibility()')

    def asks_for_the_token_that_reading_needs(self):
        with self.page(guarded=True, loaded=False) as (page, _):
            page.wait('document.querySelector("#unlock").open && /needs a token/.test(document.querySelector("#unlock-title").textContent)')
            seen = len(page.requests)
            time.sleep(1.5)
            assert len(page.requests) == seen, 'it goes on asking'
            page.press('Escape')
            page.wait('!document.querySelector("#banner").hidden')
            page.click('#banner-button')
            page.wait('document.activeElement.id === "token"')
            page.type(TOKEN)
            page.press('Enter')
            page.wait('document.querySelectorAll("#sessions-table tbody tr").length === 50 && document.querySelector("#access").textContent === "Lock"')
            assert page.run('document.querySelector("#banner").hidden')

    # What must not happen.

    def the_listeners_hear(self):
        """That nothing is heard below means nothing unless these are."""
        server = self.make(sessions=1, token=TOKEN)
        try:
            page = self.chromium.page()
            page.open(server.url)
            page.wait('document.querySelector("#state").dataset.state === "running"')
            page.run('document.body.insertAdjacentHTML("beforeend", "<p style=\'color: red\'>"); fetch("http://127.0.0.1:9/").catch(() => {})')
            page.wait('seen.violations.length >= 2')
            page.run('setTimeout(() => { throw new Error("thrown") }); { const end = performance.now() + 120; setTimeout(() => { while (performance.now() < end + 120); }); } console.error("told")')
            page.wait('seen.errors.length === 1 && seen.long.some((task) => task[1] > 50)')
            assert any('told' in text for text in page.complaints) and any('thrown' in text for text in page.complaints), page.complaints
            page.close()
        finally:
            server.stop()

    def hostile_names_are_only_text(self):
        with self.page(sessions=0, hostile=self.make.hostile) as (page, server):
            page.wait(f'document.querySelectorAll("#sessions-table tbody tr").length === {len(server.hostile)}')
            names = self.rows(page, 2)
            assert any('<img src=x onerror=' in name for name in names) and any('\\u{202e}' in name for name in names), names
            assert max(map(len, names)) < 500, 'long names are not clipped'
            assert all(any(spelled in name for name in names) for spelled in ('\\u{34f}', '\\u{3164}\\u{2800}', 'tag\\u{e0041}')), names
            narrow = page.run('[...document.querySelectorAll("#sessions-table tbody td.client")].filter((cell) => cell.firstElementChild.getBoundingClientRect().width === 0).length')
            assert narrow == 0, f'{narrow} names take no room'
            lengths = page.run('[...document.querySelectorAll("#sessions-table [title]")].map((one) => one.title.length)')
            assert max(lengths, default=0) < 12_000, lengths
            assert page.run('document.querySelectorAll("img, iframe, object, svg, main script").length') == 0
            assert page.run('document.documentElement.scrollWidth <= innerWidth')
            for row in range(1, len(names) + 1):
                page.click(f'#sessions-table tbody tr:nth-child({row}) button')
                page.wait('document.querySelectorAll("#details section:not([hidden]) dd").length > 12')
                assert page.run('document.querySelector("#details").scrollWidth <= document.querySelector("#details").clientWidth')
                page.press('Escape')
                page.wait('!document.querySelector("#details").open')
            for tab in ('groups', 'events'):
                page.click(f'#tab-{tab}')
                page.wait(f'document.querySelector("#panel-{tab} tbody tr")')
            assert page.run('document.querySelectorAll("img, iframe, object, svg, marquee, tbody b, main script").length') == 0

    def rests_while_hidden(self):
        with self.page() as (page, _):
            page.wait('document.querySelector("#footer-note").textContent !== ""')
            hide = 'Object.defineProperty(document, "hidden", {{ configurable: true, value: {} }}); document.dispatchEvent(new Event("visibilitychange"))'
            page.run(hide.format('true'))
            # What was on its way.
            time.sleep(.5)
            seen = len(page.requests)
            time.sleep(3)
            assert len(page.requests) == seen, page.requests[seen:]
            page.run(hide.format('false'))
            self.after_refreshes(page, 1)
            asked = [url for url in page.requests[seen:] if '/history?since=' in url]
            assert asked and not asked[0].endswith('since=0'), asked

    def comes_back_after_an_outage(self):
        with self.page() as (page, server):
            server.stop()
            page.wait('document.querySelector("#state").textContent === "connection lost" && !document.querySelector("#banner").hidden')
            self.shot(page, 'lost')
            seen, began = len(page.requests), time.monotonic()
            time.sleep(6)
            tries = len(page.requests) - seen
            assert tries <= 5, f'{tries} requests in {time.monotonic() - began:.1f} s'
            server.restart()
            page.wait('document.querySelector("#state").textContent === "running" && document.querySelector("#banner").hidden', 10)
            before = page.text('#footer-note')
            page.wait(f'document.querySelector("#footer-note").textContent !== {json.dumps(before)}')

    def is_quick_with_many_sessions(self):
        with self.page(sessions=self.many) as (page, _):
            paints = page.run('Object.fromEntries(performance.getEntriesByType("paint").map((one) => [one.name, Math.round(one.startTime)]))')
            loading = page.run('Math.round(Math.max(0, ...seen.long.map((task) => task[1])))')
            page.wait(f'/of {self.many:,}$/.test(document.querySelector("#sessions-pager .number").textContent)')
            with page.tasks() as tasks:
                page.run('seen.long.length = 0')
                for column in (5, 7, 2, 4, 1):
                    page.click(f'#sessions-table thead th:nth-child({column}) button')
                    page.click('#sessions-pager button:nth-of-type(3)')
                    page.click(f'#tab-{("groups", "listeners", "events", "events", "sessions")[column % 5]}')
                    time.sleep(WATCHED_SECONDS / 10)
                    page.click('#tab-sessions')
                    page.click('#sessions-table tbody tr:nth-child(2) button')
                    page.press('Escape')
                    time.sleep(WATCHED_SECONDS / 10)
            long = page.run('seen.long.map((task) => Math.round(task[1]))')
            computed = max(computed for _, computed in tasks)
            cost = sum(computed for _, computed in tasks) / WATCHED_SECONDS / 10
            print(f'    {self.many} sessions: first contentful paint {paints.get("first-contentful-paint")} ms; longest task while loading '
                  f'{loading or "under 50"} ms; while updating and in use for {WATCHED_SECONDS} s: {len(tasks)} tasks, the longest computed {computed:.0f} ms, '
                  f'{cost:.1f} % of a core; longer than 50 ms by the clock, others\' work included: {long or "none"}; load {os.getloadavg()[0]:.1f}')
            assert paints['first-contentful-paint'] < FIRST_PAINT_MILLIS, paints
            # What a task has computed: by the clock, other programs on the machine hold up any.
            assert len(tasks) > 100 and computed <= LONGEST_TASK_MILLIS, computed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument('--mock', action='store_true')
    which.add_argument('--netsys')
    parser.add_argument('--only', nargs='+', default=[])
    parser.add_argument('--sessions', type=int, default=10_000)
    parser.add_argument('--screenshots')
    options = parser.parse_args()
    make = servers.Mock
    if options.netsys:
        servers.Netsys.program = os.path.abspath(options.netsys)
        make = servers.Netsys
        # A descriptor for each session, here and in the server.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.screenshots:
        os.makedirs(options.screenshots, exist_ok=True)
    checks = Checks(make, options.screenshots, options.sessions)
    failed = False
    try:
        for name in [name for name in vars(Checks) if name in options.only or (not options.only and name not in HELPERS and not name.startswith('_'))]:
            try:
                getattr(checks, name)()
                print(f'{name:38} passed', flush=True)
            except Exception:
                failed = True
                print(f'{name:38} FAILED', flush=True)
                traceback.print_exc()
    finally:
        checks.close()
    return 1 if failed else 0


HELPERS = ('close', 'page', 'rows', 'after_refreshes', 'fetched', 'shot', 'unlock', 'request')

if __name__ == '__main__':
    sys.exit(main())
