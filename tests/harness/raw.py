"""A Jupyter client of bare frames, for messages that no client library would send."""

import hashlib
import hmac
import json
import uuid

import zmq

MARK = b"<IDS|MSG>"


def sign(key, parts):
    signer = hmac.new(key.encode(), digestmod=hashlib.sha256)
    for part in parts:
        signer.update(part)
    return signer.hexdigest().encode()


def request(key, msg_type, content=None, session=None):
    """The frames of a well-made request."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "session": session or uuid.uuid4().hex,
        "username": "tester",
        "date": "2026-01-02T03:04:05.678901Z",
        "msg_type": msg_type,
        "version": "5.4",
        "something_new": [1, 2],
    }
    parts = [json.dumps(part).encode() for part in (header, {}, {}, content or {})]
    return [MARK, sign(key, parts), *parts]


def bad_messages(key):
    """Messages that have to be dropped, by what is wrong with them."""
    good = request(key, "kernel_info_request")
    body = good[2:]
    not_json = [b"{not json", b"{}", b"{}", b"{}"]
    not_objects = [b"[]", b"3", b"null", b'"text"']
    return {
        "one empty frame": [b""],
        "no delimiter": [b"x", b"y"],
        "delimiter only": [MARK],
        "truncated after the signature": good[:2],
        "truncated header": [MARK, sign(key, body[:1]), body[0]],
        "truncated before the content": good[:5],
        "unsigned": [MARK, b"", *body],
        "wrongly signed": [MARK, b"0" * 64, *body],
        "signature of another length": [MARK, b"abc", *body],
        "signed with another key": [MARK, sign("other", body), *body],
        "not JSON, signed": [MARK, sign(key, not_json), *not_json],
        "not objects, signed": [MARK, sign(key, not_objects), *not_objects],
        "not UTF-8, signed": [MARK, sign(key, [b"\xff\xfe"] * 4), *[b"\xff\xfe"] * 4],
        "a thousand frames": [b"x"] * 1000,
    }


class Raw:
    """Sockets of one kind each, connected to the ports of a connection file."""

    def __init__(self, info):
        self.info, self.context, self.sockets = info, zmq.Context(), {}

    def endpoint(self, port_name):
        if self.info.get("transport", "tcp") == "ipc":
            return f"ipc://{self.info['ip']}-{self.info[port_name]}"
        return f"tcp://{self.info['ip']}:{self.info[port_name]}"

    def dealer(self, port_name, endpoint=None):
        if port_name not in self.sockets:
            socket = self.context.socket(zmq.DEALER)
            socket.linger = 0
            socket.connect(endpoint or self.endpoint(port_name))
            self.sockets[port_name] = socket
        return self.sockets[port_name]

    def ask(self, port_name, frames, seconds=10):
        """Sends frames and returns the frames of the answer, or None when none came in time."""
        socket = self.dealer(port_name)
        socket.send_multipart(frames)
        return self.receive(port_name, seconds)

    def receive(self, port_name, seconds=10):
        socket = self.dealer(port_name)
        return socket.recv_multipart() if socket.poll(int(seconds * 1000)) else None

    def close(self):
        self.context.destroy(linger=0)
