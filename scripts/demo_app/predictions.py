"""An application on a device: asks the agent's local API over its Unix socket (Open Inference Protocol V2)."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.demo_app.data import DataSet

__all__ = ["Application", "Camera", "Measured", "SteadyLoad"]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one device answered for the held-out images."""

    accuracy: float
    images: int
    p50_ms: float
    p99_ms: float
    version: str


class Application:
    """One keep-alive connection to one agent; sends one image per request, in the binary tensor form."""

    def __init__(self, socket_path: Path, model: str, data: DataSet) -> None:
        self._connection = _UnixConnection(socket_path)
        self._path = f"/v2/models/{model}/infer"
        self._labels = len(data.labels)

    def predict(self, image: NDArray[np.uint8]) -> tuple[int, str]:
        """The most probable class of one image and the version that answered; any failure is an exception."""
        scores, version = self.ask(image[np.newaxis])
        return int(np.argmax(scores[0])), version

    def ask(self, images: NDArray[np.uint8], name: str = "") -> tuple[NDArray[np.float64], str]:
        """The scores of images [n, pixels], and the version that answered; any failure is an exception."""
        header = json.dumps(
            {
                **({"id": name} if name else {}),
                "inputs": [
                    {
                        "name": "x",
                        "shape": list(images.shape),
                        "datatype": "UINT8",
                        "parameters": {"binary_data_size": images.size},
                    }
                ]
            }
        ).encode()
        self._connection.request(
            "POST",
            self._path,
            header + images.tobytes(),
            {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"},
        )
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f"{answer.status}: {body[:200]!r}")
        content = json.loads(body)
        scores = np.array(content["outputs"][0]["data"])
        if scores.size != len(images) * self._labels:
            raise http.client.HTTPException(f"{scores.size} scores for {len(images)} images of {self._labels} classes")
        return scores.reshape(len(images), self._labels), str(content["model_version"])

    def tell(self, name: str, labels: NDArray[np.int64]) -> None:
        """What was right in the request of this name."""
        body = json.dumps({"id": name, "labels": labels.tolist()})
        self._connection.request("POST", self._path.replace("/infer", "/feedback"), body)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f"{answer.status}: {content[:200]!r}")

    def measure(self, data: DataSet, count: int) -> Measured:
        """Send `count` held-out images, one after the other."""
        right, times, versions = 0, [], set()
        for image, label in zip(data.test_x[:count], data.test_y[:count], strict=True):
            start = time.perf_counter()
            answer, version = self.predict(image)
            times.append(time.perf_counter() - start)
            right += int(answer == label)
            versions.add(version)
        p50, p99 = np.percentile(times, [50, 99]) * 1000
        return Measured(right / len(times), len(times), float(p50), float(p99), "/".join(sorted(versions)))

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


class SteadyLoad:
    """An application that keeps asking while versions change; it counts answers and failures per version."""

    def __init__(self, application: Application, data: DataSet, pause_s: float = 0.01) -> None:
        self._application, self._data, self._pause_s = application, data, pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="steady-load", daemon=True)
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request in flight."""
        self._stop.set()
        self._thread.join()
        self._application.close()

    def _run(self) -> None:
        at = 0
        while not self._stop.wait(self._pause_s):
            at = (at + 1) % len(self._data.test_x)
            try:
                _, version = self._application.predict(self._data.test_x[at])
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            else:
                self.answers[version] = self.answers.get(version, 0) + 1


class Camera:
    """Asks about ten pictures at a time until it is stopped; `lens` is what it makes of them."""

    def __init__(self, application: Application, data: DataSet, pause_s: float = 0.05) -> None:
        self._application, self._data, self._pause_s = application, data, pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self.lens: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda pictures: pictures
        self.failures: list[str] = []

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request in flight."""
        self._stop.set()
        self._thread.join()
        self._application.close()

    def _run(self) -> None:
        at = 0
        while not self._stop.wait(self._pause_s):
            places = (at + np.arange(10)) % len(self._data.test_x)
            at += 10
            try:
                self._application.ask(self.lens(self._data.test_x[places]))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
