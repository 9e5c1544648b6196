"""PyPI `websocket-client`: a WebSocket from Python."""

import json

import cbor2
import msgpack
import requests
import websocket

from server import ServerCase


class WebSocket(ServerCase):
    def open(self, path, **options):
        socket = websocket.create_connection(self.ws + path, timeout=20, **options)
        self.addCleanup(socket.close)
        return socket

    def test_the_state_and_each_change_arrive_as_json_text(self):
        requests.put(f"{self.url}/py/state", json={"a": 1})
        socket = self.open("/py/state")
        first = json.loads(socket.recv())
        self.assertEqual((first["type"], first["value"]), ("put", {"a": 1}))
        requests.put(f"{self.url}/py/state/b", json=2)
        change = json.loads(socket.recv())
        self.assertEqual((change["path"], change["value"]), ("/py/state/b", 2))

    def test_an_ending_makes_the_frames_binary_in_that_format(self):
        requests.put(f"{self.url}/py/binary", json={"a": 1})
        for ending, decode, encode in [
            (".cbor", cbor2.loads, cbor2.dumps),
            (".msgpack", msgpack.unpackb, msgpack.packb),
        ]:
            socket = self.open(f"/py/binary{ending}")
            opcode, data = socket.recv_data()
            self.assertEqual(opcode, websocket.ABNF.OPCODE_BINARY)
            self.assertEqual(decode(data)["value"], {"a": 1})
            socket.send_binary(encode({"id": 7, "op": "get"}))
            answer = decode(socket.recv())
            self.assertEqual((answer["id"], answer["ok"]["value"]), (7, {"a": 1}))

    def test_the_accept_header_chooses_too(self):
        socket = self.open("/py/accept", header=["Accept: application/cbor"])
        opcode, data = socket.recv_data()
        self.assertEqual(opcode, websocket.ABNF.OPCODE_BINARY)
        self.assertIsNone(cbor2.loads(data)["value"])

    def test_pings_are_answered(self):
        socket = self.open("/py/ping")
        socket.recv()
        socket.ping("hello")
        opcode, data = socket.recv_data(control_frame=True)
        self.assertEqual((opcode, data), (websocket.ABNF.OPCODE_PONG, b"hello"))

    def test_a_close_is_answered_with_its_code(self):
        socket = self.open("/py/close")
        socket.recv()
        socket.send_close(1000)
        opcode, data = socket.recv_data(control_frame=True)
        self.assertEqual(opcode, websocket.ABNF.OPCODE_CLOSE)
        self.assertEqual(int.from_bytes(data[:2], "big"), 1000)
