"""Wraps a child that reads a stranger's file: no network, bounded CPU, memory, file size and processes.

`prlimit` and `unshare` (util-linux) do the work. `unshare --net` needs user namespaces, which some
containers forbid; that is probed once and logged, and the rest of the limits hold without it.
"""

from __future__ import annotations

import functools
import logging
import shutil
import subprocess

log = logging.getLogger(__name__)


def wrap(command: list[str], cpu_s: int | None, memory_bytes: int, file_bytes: int) -> list[str]:
    """The command to run instead of `command`. Each wrapper becomes the next by exec, so the process id
    stays that of the child. `setpriv` comes last: entering a user namespace would clear its setting. A child
    that lives as long as a session has no bound on its processor time (`cpu_s` None)."""
    return [*_network_prefix(), *_limit_prefix(cpu_s, memory_bytes, file_bytes), *_death_prefix(), *command]


def _death_prefix() -> list[str]:
    """The child dies with the thread that waits for it, so a killed runner leaves nothing behind."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--no-new-privs", "--"] if setpriv else []


def _limit_prefix(cpu_s: int | None, memory_bytes: int, file_bytes: int) -> list[str]:
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        _warn_once("prlimit is missing: children run without resource limits")
        return []
    cpu = [] if cpu_s is None else [f"--cpu={cpu_s}"]
    return [prlimit, *cpu, f"--as={memory_bytes}", f"--fsize={file_bytes}", "--core=0",
            "--nofile=64", "--"]


@functools.cache
def _network_prefix() -> tuple[str, ...]:
    unshare = shutil.which("unshare")
    # A user namespace makes it work without root; as root plain --net is enough.
    for flags in (("--net",), ("--map-root-user", "--net")):
        if unshare is None:
            break
        probe = subprocess.run([unshare, *flags, "--", "true"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if probe.returncode == 0:
            return (unshare, *flags, "--")
    _warn_once("no network namespace can be made: children are confined by protocol lists only")
    return ()


@functools.cache
def _warn_once(text: str) -> None:
    log.warning(text)
