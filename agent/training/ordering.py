"""What the training process is told at its start: which files, which bounds, whose key."""

from __future__ import annotations

import struct

from agent.identity.store import IdentityStore
from agent.inference.host import ModelHost
from agent.paths import AgentPaths
from agent.training.protocol import Start
from agent.training.settings import SampleSettings, TrainingSettings
from shared import durable, limits
from shared.errors import Conflict, InvalidInput
from shared.profiles import Profile
from shared.sandbox.wish import Confinement
from shared.wire.training import TrainingOffer

__all__ = ["Ordering"]

_BASE_BYTES = 4096 * limits.MIB
"""Address space that interpreter, numpy, Flower and the TFLite runtime map, most of it never touched."""
_FILE_BYTES = 4 * limits.MAX_FEDERATED_WEIGHTS_COUNT + limits.MIB
_NAMES = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")
"""Where the system keeps the addresses of its name servers."""
_NAME_PORT = 53


class Ordering:
    """Makes orders for the training process of this device. sandbox_user: the account that it changes to."""

    def __init__(
        self,
        paths: AgentPaths,
        profile: Profile,
        settings: TrainingSettings,
        samples: SampleSettings,
        host: ModelHost,
        store: IdentityStore,
        *,
        sandbox_user: str,
    ) -> None:
        self._paths = paths
        self._profile = profile
        self._settings = settings
        self._samples = samples
        self._host = host
        self._store = store
        self._user = sandbox_user

    def start(self, offer: TrainingOffer, space: str, left_s: float) -> Start:
        """The order for this offer, of which `left_s` are left; errors `training.*`, `identity.*`, `storage.*`."""
        directory = self._host.serving(offer.model)
        if directory is None:
            raise Conflict("training.model_missing", f"{offer.model} does not serve here any more.")
        host, _, port = offer.address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise InvalidInput("training.address", "The offer does not say where to go.")
        credentials, settings = self._store.credentials(), self._settings
        durable.make_dir(self._paths.training)
        return Start(
            run=offer.run,
            address=offer.address,
            model=offer.model,
            version=offer.version,
            bundle_sha256=offer.bundle_sha256,
            directory=str(directory),
            space=space,
            samples=str(self._paths.samples),
            sample_settings=self._samples,
            state=str(self._paths.training),
            key=str(credentials.key),
            certificate=str(credentials.certificate),
            ca=str(credentials.hub_ca),
            valid_s=left_s,
            linger_s=offer.linger_s,
            personal_samples=settings.personal_samples if settings.personal else 0,
            personal_margin=settings.personal_margin,
            trainer=settings.trainer,
            confinement=self._confinement(str(directory), str(credentials.hub_ca), int(port)),
            promise=offer.promise,
        )

    def _confinement(self, directory: str, ca: str, port: int) -> Confinement:
        wide = struct.calcsize("P") >= 8
        own = [self._settings.trainer_folder] if self._settings.trainer_folder else []
        return Confinement(
            read=[directory, str(self._paths.samples), ca, *_NAMES, *own],
            write=[str(self._paths.training)],
            memory_bytes=_BASE_BYTES + 2 * self._profile.training.max_memory_bytes if wide else 0,
            file_bytes=_FILE_BYTES,
            user=self._user,
            network=True,
            ports=[port, _NAME_PORT],
        )
