"""Runs the Autobahn test suite against our server and our client, and judges its reports. Python 2.7.

    run.py PEER BIN DIR

PEER is the built example `autobahn`, BIN has the suite's wstest, DIR takes the reports.
"""

from __future__ import print_function

import collections
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

PEER, BIN, DIR = sys.argv[1:]
ALL = os.environ.get('AUTOBAHN', 'some') == 'all'
SECONDS = int(os.environ.get('AUTOBAHN_SECONDS', 7200 if ALL else 600))

# 12 and 13 send a thousand messages in each case, of 16 bytes in the first to 128 KiB in the tenth, and in
# fragments from the eleventh on. The middle digit of 12 names the data, that of 13 the offered parameters.
PLAIN = ['1.*', '2.*', '3.*', '4.*', '5.*', '6.*', '7.*', '9.*', '10.*']
COMPRESSED = ['12.*', '13.*'] if ALL else [
    '%s.%s' % (group, case)
    for group in ['12.1', '12.2', '12.3', '12.4', '12.5', '13.1', '13.2', '13.3', '13.4', '13.5', '13.6', '13.7']
    for case in ([1, 4, 8, 11, 16] if group in ['12.1', '13.4'] else [2, 12])]
# Cases that were passed, whether as a peer must or as it may.
PASSED = ['OK', 'INFORMATIONAL']

running = []


def start(arguments, **options):
    process = subprocess.Popen(arguments, **options)
    running.append(process)
    return process


def stop_all():
    for process in running:
        if process.poll() is None:
            process.terminate()
    for process in running:
        process.wait()


def wstest(mode, name, spec):
    path = os.path.join(DIR, name + '.json')
    with open(path, 'w') as out:
        json.dump(spec, out)
    log = open(os.path.join(DIR, name + '.log'), 'w')
    arguments = [os.path.join(BIN, 'wstest'), '-m', mode, '-s', path, '-u', '0']
    return start(arguments, stdout=log, stderr=subprocess.STDOUT)


def spec(name, cases, **more):
    outdir = os.path.join(DIR, 'reports', name)
    return dict(more, outdir=outdir, cases=cases, **{'exclude-cases': [], 'exclude-agent-cases': {}})


AGENTS = {
    'takeover': PLAIN + COMPRESSED,
    'takeover-wss': PLAIN + COMPRESSED,
    # Groups that use no compression are the same with these.
    'alone': COMPRESSED,
    'default': COMPRESSED,
    'fragments': PLAIN + COMPRESSED if ALL else PLAIN,
}
if ALL:
    AGENTS['alone-wss'] = COMPRESSED


def free_port():
    listener = socket.socket()
    listener.bind(('127.0.0.1', 0))
    port = listener.getsockname()[1]
    listener.close()
    return port


def wait_until_listening(process, port):
    while process.poll() is None:
        try:
            socket.create_connection(('127.0.0.1', port)).close()
            return
        except socket.error:
            time.sleep(0.05)
    raise RuntimeError('the fuzzing server ended, see the logs in ' + DIR)


def fuzz_server(agent, url):
    """The suite's client against our server."""
    name = 'server-' + agent
    servers = [{'agent': agent, 'url': url}]
    process = wstest('fuzzingclient', name, spec(name, AGENTS[agent], servers=servers))
    return name, agent, process


def fuzz_client(agent):
    """The suite's server against our client. Also says how many cases there are."""
    name = 'client-' + agent
    port = free_port()
    url = '%s://127.0.0.1:%d' % ('wss' if agent.endswith('wss') else 'ws', port)
    tls = dict(key=os.path.join(DIR, 'key.pem'), cert=os.path.join(DIR, 'cert.pem'))
    fuzzer = wstest('fuzzingserver', name, spec(name, AGENTS[agent], url=url, **tls))
    wait_until_listening(fuzzer, port)
    count = int(subprocess.check_output([PEER, 'count', DIR, url]))
    process = start([PEER, 'client', DIR, url, agent, '1', str(count)])
    return name, agent, process, count


def judge(name, agent, count):
    """Prints what came out, and returns what is wrong."""
    with open(os.path.join(DIR, 'reports', name, 'index.json')) as report:
        cases = json.load(report)[agent]
    groups = collections.OrderedDict()
    wrong = []
    for case in sorted(cases, key=lambda case: [int(part) for part in case.split('.')]):
        result = cases[case]
        behavior, close = result['behavior'], result['behaviorClose']
        groups.setdefault(case.split('.')[0], collections.Counter())[behavior] += 1
        if behavior not in PASSED or close not in PASSED:
            wrong.append('%s: case %s: %s, close %s' % (name, case, behavior, close))
    for group, counts in groups.items():
        shown = ', '.join('%d %s' % (counts[what], what) for what in sorted(counts, reverse=True))
        print('%-22s %4s  %s' % (name, group, shown))
    if len(cases) != count:
        wrong.append('%s: %d cases of %d have a report' % (name, len(cases), count))
    return wrong


def run():
    shutil.rmtree(os.path.join(DIR, 'reports'), ignore_errors=True)
    subprocess.check_call([PEER, 'certificate', DIR])
    server = start([PEER, 'server', DIR], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    urls = dict(line.split() for line in iter(server.stdout.readline, 'ready\n'))
    wrong = []
    # Two at a time: each is one process that computes and one that answers.
    for agent in sorted(AGENTS, reverse=True):
        client, _, client_process, count = fuzz_client(agent)
        tested, _, server_process = fuzz_server(agent, urls[agent])
        for name, process in [(client, client_process), (tested, server_process)]:
            if process.wait() != 0:
                wrong.append('%s: ended with status %d' % (name, process.returncode))
            else:
                wrong += judge(name, agent, count)
        sys.stdout.flush()
    return wrong


def out_of_time(_signal, _frame):
    raise RuntimeError('not done within %d s' % SECONDS)


def main():
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, out_of_time)
    signal.alarm(SECONDS)
    began = time.time()
    try:
        wrong = run()
    finally:
        stop_all()
    for line in wrong:
        print(line)
    print('%s cases, %d s: %s' % ('all' if ALL else 'some', time.time() - began, 'FAILED' if wrong else 'passed'))
    return 1 if wrong else 0


sys.exit(main())
