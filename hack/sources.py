"""The project's source files and their text without comments and literals: what hack/tidy and hack/verify-deps read."""

import os
import re
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\\ ]{0,16})\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'',
    re.S)


def files(root, suffixes):
    """Paths below root, relative to it, of tracked and new files; everything where root is no git tree."""
    try:
        # A path relative to root, not to the tree that may contain it.
        listed = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        listed = [os.path.relpath(os.path.join(d, f), root) for d, _, fs in os.walk(root) for f in fs]
    return sorted(p for p in set(listed) if p.endswith(suffixes) and os.path.isfile(os.path.join(root, p)))


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def code(text):
    """text with comments and literals blanked out; every offset and line number stays."""

    def blank(match):
        s = match.group(0)
        body = "".join("\n" if c == "\n" else " " for c in s)
        return body if s.startswith("/") else s[0] + body[1:-1] + s[-1]

    return _TOKEN.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def report(problems, what):
    """Prints problems as FILE:LINE: TEXT and returns the exit code."""
    for path, line, text in sorted(problems):
        print(f"{path}:{line}: {text}")
    print(f"{what}: {len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0
