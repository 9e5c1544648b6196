"""PyPI `cbor2` and `msgpack`: what one format writes, the others read."""

import cbor2
import msgpack
import requests

from server import ServerCase

CBOR = "application/cbor"
MSGPACK = "application/msgpack"
VALUE = {
    "null": None,
    "bool": True,
    "int": -(2**63),
    "uint": 2**64 - 1,
    "float": 0.1,
    "one": 1.0,
    "text": "grüß dich",
    "bytes": b"\x00\xff",
    "list": [1, [], {}],
    "map": {"": 1, "a": {"b": None}},
}


class Formats(ServerCase):
    def put(self, path, body, media_type):
        answer = requests.put(self.url + path, data=body, headers={"Content-Type": media_type})
        self.assertIn(answer.status_code, (201, 204), answer.text)

    def get(self, path, media_type):
        answer = requests.get(self.url + path, headers={"Accept": media_type})
        self.assertEqual(answer.status_code, 200, answer.text)
        self.assertTrue(answer.headers["Content-Type"].startswith(media_type), answer.headers["Content-Type"])
        return answer.content

    def same(self, got):
        self.assertEqual(got, VALUE)
        self.assertIsInstance(got["one"], float)

    def test_cbor_comes_back_as_cbor_and_as_messagepack(self):
        self.put("/formats/cbor", cbor2.dumps(VALUE), CBOR)
        self.same(cbor2.loads(self.get("/formats/cbor", CBOR)))
        self.same(msgpack.unpackb(self.get("/formats/cbor", MSGPACK)))

    def test_messagepack_comes_back_as_messagepack_and_as_cbor(self):
        self.put("/formats/msgpack", msgpack.packb(VALUE), MSGPACK)
        self.same(msgpack.unpackb(self.get("/formats/msgpack", MSGPACK)))
        self.same(cbor2.loads(self.get("/formats/msgpack", CBOR)))

    def test_an_ending_chooses_the_format(self):
        self.put("/formats/ending", cbor2.dumps({"a": 1}), CBOR)
        self.assertEqual(cbor2.loads(requests.get(self.url + "/formats/ending.cbor").content), {"a": 1})
        self.assertEqual(msgpack.unpackb(requests.get(self.url + "/formats/ending.msgpack").content), {"a": 1})

    def test_json_spells_bytes_in_base64(self):
        self.put("/formats/bytes", cbor2.dumps({"b": b"\x00\xff"}), CBOR)
        spelled = requests.get(self.url + "/formats/bytes").json()["b"]
        self.assertEqual(spelled[".bytes"], "AP8=")
        self.put("/formats/bytes", b'{"b":{".bytes":"AP8="}}', "application/json")
        self.assertEqual(cbor2.loads(self.get("/formats/bytes", CBOR)), {"b": b"\x00\xff"})

    def test_each_format_has_a_tag_of_its_own_and_either_fits_if_match(self):
        self.put("/formats/tags", b"1", "application/json")
        tags = {
            media_type: requests.get(self.url + "/formats/tags", headers={"Accept": media_type}).headers["ETag"]
            for media_type in ("application/json", CBOR, MSGPACK)
        }
        self.assertEqual(len(set(tags.values())), 3)
        answer = requests.put(self.url + "/formats/tags", json=2, headers={"If-Match": tags[MSGPACK]})
        self.assertEqual(answer.status_code, 204)

    def test_bad_bodies_are_refused_and_the_next_request_is_served(self):
        bad = [
            (CBOR, b"\x9f"),
            (CBOR, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
            (CBOR, b"\x81" * 100_000),
            (CBOR, b"\xa2\x61a\x01\x61a\x02"),
            (MSGPACK, b"\xdd\xff\xff\xff\xff"),
            (MSGPACK, b"\xc1"),
            (MSGPACK, b"\x91" * 100_000),
            ("application/json", b"[" * 100_000),
            ("application/json", b'{"a":1,"a":2}'),
            ("application/json", b"NaN"),
            ("application/json", b'"\xff"'),
        ]
        for media_type, body in bad:
            answer = requests.put(self.url + "/formats/bad", data=body, headers={"Content-Type": media_type})
            self.assertEqual(answer.status_code, 400, (media_type, body[:20], answer.text))
            self.assertIn("code", answer.json())
        self.assertEqual(requests.get(self.url + "/formats/bad").status_code, 404)
