"""One peer in a process of its own. It obeys requests that arrive on stdin.

Three OpenBLAS and two OpenMP runtimes in one process disturb each other, and some of
their settings are read at start only. Usage:
``python _worker.py MODULE:CLASS ARGUMENT...``.
"""

import importlib
import os
import pickle
import signal
import sys
import traceback


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the replies
    module, name = sys.argv[1].split(":")
    peer = getattr(importlib.import_module(module), name)(*sys.argv[2:])
    while True:
        try:
            method, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            reply = True, getattr(peer, method)(*args)
        except Exception:
            reply = False, traceback.format_exc()
        pickle.dump(reply, replies)
        replies.flush()


if __name__ == "__main__":
    main()
