"""Links between the repository's Markdown files: the file has to be there, and the heading as GitHub names it."""

import os
import re
import subprocess
import sys
import urllib.parse


def anchor(heading):
    text = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', heading).replace('`', '')
    text = re.sub(r'(?<!\w)[*_]+|[*_]+(?!\w)', '', text).strip().lower()
    return ''.join(c for c in text if c.isalnum() or c in ' -_').replace(' ', '-')


def read(path):
    """The anchors of a file, and its links with their lines."""
    anchors, links, fence = [], [], None
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, 1):
            if mark := re.match(r'\s*(```+|~~~+)', line):
                if fence is None:
                    fence = mark[1]
                elif mark[1].startswith(fence):
                    fence = None
            elif fence is None:
                if heading := re.match(r'#{1,6}\s+(.*?)\s*#*$', line):
                    name = anchor(heading[1])
                    count = sum(name == known or re.fullmatch(rf'{re.escape(name)}-\d+', known) is not None for known in anchors)
                    anchors.append(f'{name}-{count}' if count else name)
                anchors += re.findall(r'<[^>]*\b(?:id|name)="([^"]+)"', line)
                links += [(number, link) for link in re.findall(r'\]\(([^)\s]+)[^)]*\)', re.sub(r'`[^`]*`', '', line))]
    return anchors, links


files = subprocess.check_output(['git', 'ls-files', '*.md'], text=True).split()
known = {path: read(path) for path in files}
bad = 0
for path, (_, links) in known.items():
    for number, link in links:
        if re.match('[a-z]+:', link):
            continue
        target, _, fragment = urllib.parse.unquote(link).partition('#')
        target = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
        what = None
        if not os.path.exists(target):
            what = 'there is no such file'
        elif fragment and target in known and fragment not in known[target][0]:
            what = 'there is no such heading'
        if what:
            print(f'{path}:{number}: {link}: {what}')
            bad += 1
sys.exit(bool(bad))
