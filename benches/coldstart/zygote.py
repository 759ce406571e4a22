"""The floor: a Python process that has imported boto3 and made its clients, forked for every request.

Usage: `zygote.py PACKAGE SOCKET` with the unpacked package of python-boto3. No sandbox, no log, no runtime client: what
is left is `fork`, the page faults of the child and the handler.
"""

import gc
import json
import os
import socket
import sys


def main(package: str, path: str) -> None:
    sys.path.insert(0, package)
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    import app

    app.handler({}, None)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            event = json.loads(connection.recv(65536))
            connection.sendall(json.dumps(app.handler(event, None)).encode())
            os._exit(0)
        connection.close()
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


main(*sys.argv[1:])
