"""A gateway of before flocklock, as far as its lock goes.

    python3 old_gateway.py VERSION
    python3 .../hermes gateway run VERSION     looks like a gateway to LATEST

VERSION is V1 (2026-03-14), OLD (2026-04-30) or LATEST (2026-09). It was written
from the description of the old protocol, not from another model of it.

Commands are lines on standard input, words parted by tabs. TIME is when to
begin, in nanoseconds of CLOCK_MONOTONIC, which all times here are:

    acquire TIME LOCKFILE GRAVES     take the lock
    again TIME                       take it once more, as after a reconnect
    release TIME                     give it back

Answers are lines on standard output:

    ready
    step TIME WHAT FILE WHY          one step of the protocol, after it was done
    won TIME INODE CREATED WRITTEN   it owns the lock from here on
    lost TIME WHY                    it does not
    end TIME                         it owns the lock no longer
    released TIME                    and has done what there was to do

A removal must tell what it removed even when the process is killed in the next
moment. So the file is not unlinked but renamed into GRAVES, a directory on the
same file system; at the lock's path the two look the same. In the same way a
file that a rename writes over is exchanged with one in GRAVES. The name of a
grave says what had been judged, and the file is what was removed:

    WHAT,PID,TIME,INODE,SIZE,MTIME,WHY

Where V1 writes over its own record in place, the grave is a copy, and its name
says what it is a copy of:

    overwrote,PID,TIME,INODE,SIZE,MTIME,own,INODE,SIZE,MTIME
"""

import ctypes
import datetime
import hashlib
import json
import os
import sys
import time

V1, OLD, LATEST = range(3)

IDENTITY = "123456:a-secret-token"
SCOPE = "telegram-bot-token"

libc = ctypes.CDLL(None)


class Broken(Exception):
    """The old code let an exception out."""


def exchange(a, b):
    """Exchanges two names in one step, if both are there."""
    at_cwd, rename_exchange = -100, 2
    return libc.renameat2(at_cwd, os.fsencode(a), at_cwd, os.fsencode(b), rename_exchange) == 0


def tell(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def wait_until(moment):
    while True:
        rest = moment - time.monotonic_ns()
        if rest <= 0:
            return
        if rest > 500000:
            time.sleep((rest - 300000) / 1e9)


class Found:
    """What one look at the lock's path saw."""

    def __init__(self, state, record):
        self.state = state  # (inode, size, mtime), None: nothing could be read
        self.record = record  # None: no JSON object

    def name(self):
        return ",".join(str(n) for n in self.state or (0, 0, 0))


def look(version, path):
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return Found(None, None)
    try:
        stat = os.fstat(fd)
        data = os.read(fd, 1 << 20)
    except OSError:
        return Found(None, None)
    finally:
        os.close(fd)
    state = (stat.st_ino, len(data), stat.st_mtime_ns)
    try:
        text = data.decode("utf-8-sig" if version == LATEST else "utf-8").strip()
        record = json.loads(text) if text else None
    except UnicodeDecodeError:
        if version != LATEST:
            raise Broken("no UTF-8")
        record = None
    except ValueError:
        record = None
    return Found(state, record if isinstance(record, dict) else None)


def stat_fields(pid):
    """The words of /proc/PID/stat, by a count that a blank in a name upsets."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
            return file.read().split()
    except OSError:
        return []


def start_time(pid):
    try:
        return int(stat_fields(pid)[21])
    except (IndexError, ValueError):
        return None


def process_state(pid):
    fields = stat_fields(pid)
    return fields[2] if len(fields) > 2 else ""


def command_line(pid):
    """None where it cannot be read."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            data = file.read()
    except OSError:
        return None
    return data.replace(b"\0", b" ").decode("utf-8", "ignore").strip() or None


def is_gateway(command, restart=False):
    tokens = [t.strip("\"'").replace("\\", "/").lower() for t in command.split()]
    bases = [t.split("/")[-1] for t in tokens]
    if any(t == "gateway/run.py" or t.endswith("/gateway/run.py") for t in tokens):
        return True
    if "hermes-gateway" in bases or "hermes-gateway.exe" in bases:
        return True
    entry = "hermes" in bases or "hermes.exe" in bases
    if not entry and not any("hermes_cli.main" in t or "hermes_cli/main.py" in t for t in tokens):
        return False
    words, profile_follows = [], False
    for token in tokens:
        if profile_follows:
            profile_follows = False
        elif token in ("--profile", "-p"):
            profile_follows = True
        elif not token.startswith(("--profile=", "-p=")):
            words.append(token)
    if "gateway" not in words:
        return False
    after = words[words.index("gateway") + 1:]
    return not after or after[0] == "run" or restart and after[0] == "restart"


def exists(version, pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return version == LATEST  # another user's process is a process too
    except OverflowError:
        raise Broken("a huge pid")
    return version != LATEST or process_state(pid) != "Z"


def why_stale(version, record, pid):
    """Why a record's owner is taken for gone; None: it lives."""
    if pid is None:
        return "no-pid"
    if not exists(version, pid):
        return "dead"
    recorded, current = record.get("start_time"), start_time(pid)
    if recorded is not None and current is not None and recorded != current:
        return "other-start"
    if version == LATEST:
        command = command_line(pid)
        if command is not None and not is_gateway(command):
            return "no-gateway"
        argv = record.get("argv")
        words = " ".join(str(word) for word in argv) if isinstance(argv, list) else ""
        if command is None and (recorded is None or current is None) and not is_gateway(words, restart=True):
            return "no-gateway"
    if version != V1 and process_state(pid) in ("T", "t"):
        return "stopped"
    return None


def pid_of(record):
    try:
        return int(record["pid"])
    except (KeyError, TypeError, ValueError):
        return None
    except OverflowError:
        raise Broken("an infinite pid")


class Gateway:
    def __init__(self, version):
        self.version = version
        self.pid = os.getpid()
        self.path = self.graves = None

    def record(self):
        return {
            "pid": self.pid,
            "kind": "hermes-gateway",
            "argv": list(sys.argv),
            "start_time": start_time(self.pid),
            "scope": SCOPE,
            "identity_hash": hashlib.sha256(IDENTITY.encode()).hexdigest()[:16],
            "metadata": {"platform": "telegram"},
            "updated_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds"),
        }

    def grave(self, what, judged, why):
        name = "%s,%d,%d,%s,%s" % (what, self.pid, time.monotonic_ns(), judged.name(), why)
        return os.path.join(self.graves, name)

    def remove(self, what, judged, why):
        """Removes whatever stands at the path by now."""
        tell("step", time.monotonic_ns(), "judged-" + what, judged.name(), why)
        grave = self.grave(what, judged, why)
        try:
            os.rename(self.path, grave)
        except OSError:
            tell("step", time.monotonic_ns(), "nothing-there", judged.name(), why)
            return
        if what == "renamed":  # to the tombstone, which goes at once
            for put in (lambda: os.link(grave, self.path + ".stale"), lambda: os.unlink(self.path + ".stale")):
                try:
                    put()
                except OSError:
                    pass
        tell("step", time.monotonic_ns(), what, os.stat(grave).st_ino, why)

    def acquire(self):
        """Says how it went, as an answer."""
        record = self.record()
        found = look(self.version, self.path)
        if found.record is None and self.version != V1 and os.path.exists(self.path):
            self.remove("unlinked", found, "broken")
        if found.record:
            pid = pid_of(found.record)
            same_start = found.record.get("start_time") == record["start_time"]
            if pid == self.pid and (same_start or self.version == LATEST):
                return self.rewrite(found, record)
            why = why_stale(self.version, found.record, pid)
            if why is None:
                return ("lost", time.monotonic_ns(), "held by %d" % pid)
            self.remove("renamed" if self.version == LATEST else "unlinked", found, why)
        return self.create(record)

    def create(self, record):
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777)
        except FileExistsError:
            return ("lost", time.monotonic_ns(), "somebody created it")
        created = time.monotonic_ns()
        inode = os.fstat(fd).st_ino
        os.write(fd, json.dumps(record).encode())
        os.close(fd)
        written = time.monotonic_ns()
        tell("step", created, "created", inode, written)
        return ("won", time.monotonic_ns(), inode, created, written)

    def rewrite(self, judged, record):
        """Writes the own record anew, over whatever stands there by now."""
        begun = time.monotonic_ns()
        write = self.overwrite if self.version == V1 else self.replace
        inode = write(judged, json.dumps(record).encode())
        tell("step", begun, "rewrote", judged.name(), inode)
        return ("won", time.monotonic_ns(), inode, begun, time.monotonic_ns())

    def overwrite(self, judged, text):
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o777)
        stat, data = os.fstat(fd), os.read(fd, 1 << 20)
        found = (stat.st_ino, len(data), stat.st_mtime_ns)
        with open(self.grave("overwrote", judged, "own") + ",%d,%d,%d" % found, "wb") as grave:
            grave.write(data)
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)
        os.close(fd)
        return stat.st_ino

    def replace(self, judged, text):
        tmp = self.grave("rewrote", judged, "own")
        with open(tmp, "wb") as file:
            file.write(text)
            inode = os.fstat(file.fileno()).st_ino
        if not exchange(tmp, self.path):
            os.replace(tmp, self.path)  # nothing stands there by now
        return inode

    def release(self):
        try:
            found = look(self.version, self.path)
        except Broken:
            return
        if not found.record or found.record.get("pid") != self.pid:
            return
        if self.version != LATEST and found.record.get("start_time") != start_time(self.pid):
            return
        self.remove("released", found, "own")

    def obey(self, command, moment, *rest):
        if rest:
            self.path, self.graves = rest
        wait_until(int(moment))
        if command in ("again", "release"):
            tell("end", time.monotonic_ns())
        if command == "release":
            self.release()
            tell("released", time.monotonic_ns())
            return
        try:
            answer = self.acquire()
        except Broken as problem:
            answer = ("lost", time.monotonic_ns(), "it crashed: %s" % problem)
        tell(*answer)


def main():
    gateway = Gateway({"V1": V1, "OLD": OLD, "LATEST": LATEST}[sys.argv[-1]])
    tell("ready")
    for line in sys.stdin:
        gateway.obey(*line.rstrip("\n").split("\t"))


if __name__ == "__main__":
    main()
