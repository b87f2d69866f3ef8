"""A network between clients and a controller that can be cut: what is on its way then is lost, as when a router restarts."""

import json
import socket
import struct
import threading

PORTS = ("registration", "control", "mux", "task", "broadcast", "iopub", "notification")
# Closes at once and drops what was not read.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Listens for each port of a client's connection file, and writes a file with the ports to use instead."""

    def __init__(self, file, proxied):
        self.lock, self.pairs, self.n_bytes, self.is_over = threading.Lock(), set(), 0, False
        self.loses, self.lost = False, b""
        self.listeners = []
        info = json.loads(file.read_text())
        for name in PORTS:
            listener = socket.create_server(("127.0.0.1", 0))
            self.listeners.append(listener)
            threading.Thread(target=self.serve, args=(listener, info[name]), daemon=True).start()
            info[name] = listener.getsockname()[1]
        proxied.write_text(json.dumps(info))

    def serve(self, listener, port):
        while not self.is_over:
            try:
                client, _ = listener.accept()
                controller = socket.create_connection(("127.0.0.1", port))
            except OSError:
                continue
            pair = (client, controller)
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs.add(pair)
            for source, target in (pair, pair[::-1]):
                threading.Thread(target=self.move, args=(source, target, pair), daemon=True).start()

    def move(self, source, target, pair):
        try:
            while piece := source.recv(1 << 16):
                self.n_bytes += len(piece)
                if self.loses and source is pair[0]:
                    self.lost += piece
                else:
                    target.sendall(piece)
        except OSError:
            pass
        self.end(pair)

    def end(self, pair):
        with self.lock:
            self.pairs.discard(pair)
        for end in pair:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def lose(self):
        """From now on what clients send is lost, until the connections are cut."""
        self.lost, self.loses = b"", True

    def cut(self):
        """Ends every connection; new ones may come at once."""
        for pair in list(self.pairs):
            self.end(pair)
        self.loses = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_over = True
        for listener in self.listeners:
            listener.close()
        self.cut()
