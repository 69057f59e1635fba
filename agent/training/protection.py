"""What happens to an update between training and its way out: clipping, the device's own noise, masks, encoding.

Rules: what the hub promised when it offered the round is held against what it orders, before any work is done
(`training.promise`); with noise of its own a device says nothing beside it: every update counts as one example, and no
metric goes along; what is masked is not encoded otherwise; what rounding leaves out of a clipped update is forgotten,
because the next one must not be longer for it. Seeds of noise come from the system and are used once.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509.oid import NameOID

from agent.training.orders import Answer, Order, Training
from agent.training.secure import SecureSession
from shared.errors import StorageFailure, Untrusted
from shared.federated.clipping import clip
from shared.federated.codec import encode
from shared.federated.noise import gaussian
from shared.federated.secagg.fixed import pack
from shared.federated.secagg.messages import Sealed
from shared.federated.vector import Vector
from shared.wire.training import Promise

__all__ = ["Protection"]

_NO_PROMISE = Promise()
_CLOSE = 1e-6


class Protection:
    """Protects this device's updates in one run. session: None: this device does not take part in secure aggregation.

    random: where noise comes from; only tests choose it.
    """

    def __init__(
        self,
        session: SecureSession | None = None,
        promise: Promise = _NO_PROMISE,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._session = session
        self._promise = promise
        self._random = random
        self._asked: Sealed | None = None

    @classmethod
    def of_device(cls, key: EllipticCurvePrivateKey, certificate: bytes, promise: Promise) -> Protection:
        """That of the device with this key and certificate (PEM); error `identity.certificate`."""
        try:
            names = x509.load_pem_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            device_id = str(names[0].value)
        except (ValueError, IndexError) as error:
            raise StorageFailure("identity.certificate", "The device's certificate cannot be read.") from error
        return cls(SecureSession(device_id, key, certificate), promise)

    @property
    def expects(self) -> bool:
        """Whether another question of a session follows, if the hub goes on."""
        return self._session is not None and self._session.under_way

    def answer(self, order: Order) -> Answer:
        """The answer to a question of secure aggregation; errors `training.promise`, `secure.*`."""
        return Answer(update=self._secure().answer(order.payload), examples=1)

    def check(self, order: Order, wanted: Training) -> None:
        """Return when what is ordered keeps what was promised; errors `training.promise`, `secure.*`."""
        self._asked = self._secure().accept(order.payload) if order.payload else None
        promised = self._promise
        if promised.secure_aggregation and self._asked is None:
            raise _broken("that only sums of updates can be read")
        noise = wanted.noise_multiplier
        if self._asked is not None and self._session is not None:
            noise *= math.sqrt(self._session.least)
        if noise < promised.client_noise * (1 - _CLOSE):
            raise _broken(f"noise of {promised.client_noise:g} times the clip")
        if promised.clip and not 0 < wanted.clip <= promised.clip * (1 + _CLOSE):
            raise _broken(f"updates clipped to {promised.clip:g}")

    def write(
        self,
        difference: Vector,
        examples: int,
        metrics: Mapping[str, float],
        wanted: Training,
        sizes: Sequence[int],
        residual: Vector | None = None,
    ) -> tuple[Answer, Vector]:
        """The answer to a task that was checked, and what its encoding leaves out; errors `update.*`, `secure.*`."""
        within = 0.5
        if wanted.clip > 0:
            difference, inside = clip(difference, wanted.clip)
            within, residual = (0.5 if inside else -0.5), None
        if wanted.noise_multiplier > 0:
            deviation = wanted.noise_multiplier * wanted.clip
            difference = (difference + gaussian(self._random(32), difference.size, deviation)).astype(np.float32)
            within += float(gaussian(self._random(32), 1, wanted.count_noise)[0])
            examples, metrics = 1, ({"within": within} if wanted.count_noise else {})
        if self._asked is not None:
            asked, self._asked = self._asked, None
            packed = pack(asked.scale, difference, examples, within, metrics)
            return Answer(update=self._secure().mask(asked, packed), examples=1), np.zeros_like(difference)
        update, left_out = encode(difference, sizes, wanted.scheme, residual, wanted.keep)
        left_out = np.zeros_like(left_out) if wanted.clip > 0 else left_out
        return Answer(update=update, examples=examples, metrics=dict(metrics)), left_out

    def _secure(self) -> SecureSession:
        if self._session is None:
            raise Untrusted("training.promise", "This device does not take part in secure aggregation.")
        return self._session


def _broken(promise: str) -> Untrusted:
    return Untrusted("training.promise", f"The hub does not keep what it promised: {promise}.")
