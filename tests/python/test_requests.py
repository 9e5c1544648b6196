"""PyPI `requests`: what most Python programs speak HTTP with."""

import threading

import requests

from server import ServerCase


class Requests(ServerCase):
    def setUp(self):
        self.http = requests.Session()
        self.addCleanup(self.http.close)

    def test_a_record_is_written_read_and_removed(self):
        url = f"{self.url}/rooms/kitchen"
        self.assertEqual(self.http.put(url, json={"temp": 21.5}).status_code, 201)
        self.assertEqual(self.http.get(url).json(), {"temp": 21.5})
        self.assertEqual(self.http.patch(url, json={"light": True}).status_code, 204)
        self.assertEqual(self.http.get(url).json(), {"light": True, "temp": 21.5})
        self.assertEqual(self.http.delete(url).status_code, 204)
        self.assertEqual(self.http.get(url).status_code, 404)

    def test_names_with_odd_characters_come_back_as_they_were(self):
        for name in ["grün", "a b", "50%", "#1", "q?x", "日本", "[x]", "$y", "'", "+"]:
            url = f"{self.url}/odd/{requests.utils.quote(name, safe='')}"
            self.assertEqual(self.http.put(url, json=name).status_code, 201, name)
            self.assertEqual(self.http.get(url).json(), name)
        ids = [child["id"] for child in self.http.get(f"{self.url}/odd/").json()]
        self.assertIn("日本", ids)
        self.assertEqual(len(ids), 10)

    def test_a_large_tree_is_streamed_and_whole(self):
        value = {f"k{i:05}": "x" * 100 for i in range(5000)}
        url = f"{self.url}/large/one"
        self.assertEqual(self.http.put(url, json=value).status_code, 201)
        self.assertEqual(self.http.get(url).json(), value)
        children = self.http.get(url + "/").json()
        self.assertEqual({child["id"]: child["value"] for child in children}, value)

    def test_a_body_sent_in_chunks_is_taken(self):
        url = f"{self.url}/chunked/one"
        answer = self.http.put(url, data=iter([b'{"a"', b": [1, ", b"2]}"]), headers={"Content-Type": "application/json"})
        self.assertEqual(answer.status_code, 201)
        self.assertEqual(self.http.get(url).json(), {"a": [1, 2]})

    def test_integers_of_64_bits_and_the_difference_of_1_and_1_0_survive(self):
        url = f"{self.url}/numbers/one"
        text = '[9223372036854775807,-9223372036854775808,18446744073709551615,1,1.0]'
        self.assertEqual(self.http.put(url, data=text, headers={"Content-Type": "application/json"}).status_code, 201)
        self.assertEqual(self.http.get(url).text.strip(), text)

    def test_an_event_stream_is_lines_that_requests_can_read(self):
        url = f"{self.url}/stream/one"
        with self.http.get(url, headers={"Accept": "text/event-stream"}, stream=True, timeout=20) as stream:
            self.assertTrue(stream.headers["Content-Type"].startswith("text/event-stream"))
            self.assertEqual(stream.headers["Cache-Control"], "no-store")
            lines = stream.iter_lines(chunk_size=1, decode_unicode=True)
            data = (line for line in lines if line.startswith("data:"))
            self.assertIn('"value":null', next(data))
            requests.put(url, json=5)
            self.assertIn('"value":5', next(data))

    def test_of_racing_writers_with_one_tag_one_wins(self):
        url = f"{self.url}/race/one"
        self.http.put(url, json=0)
        tag = self.http.get(url).headers["ETag"]
        statuses = []

        def write(number):
            statuses.append(requests.put(url, json=number, headers={"If-Match": tag}).status_code)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(statuses), [204] + [412] * 7)
